//! `tidegate test`: scenario files, run by the engine in this process. A policy that a scenario names stands relative
//! to the scenario.

use std::path::Path;

use serde::Serialize;
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::scenario::Scenario;

use crate::cli::TestArgs;
use crate::failure::{Answer, Failure};
use crate::screen::{Screen, Style, visible};

#[derive(Serialize)]
struct Tested {
    file: String,
    passed: bool,
    requests: usize,
    differences: Vec<String>,
}

pub(super) fn run(args: &TestArgs, screen: Screen) -> Result<Answer, Failure> {
    let mut tested = Vec::new();
    for path in &args.files {
        let result = test(path)?;
        if !screen.is_json {
            let word =
                if result.passed { screen.paint(Style::Green, "ok") } else { screen.paint(Style::Red, "FAILED") };
            let mut out = format!("test {} ... {word}\n", visible(&result.file));
            for difference in &result.differences {
                out.push_str(&format!("  {}\n", visible(difference)));
            }
            screen.print(&out)?;
        }
        tested.push(result);
    }
    let failed = tested.iter().filter(|result| !result.passed).count();
    if screen.is_json {
        Screen::print_json(&tested)?;
    } else {
        let word = if failed == 0 { screen.paint(Style::Green, "ok") } else { screen.paint(Style::Red, "FAILED") };
        screen.print(&format!("\nresult: {word}. {} passed; {failed} failed\n", tested.len() - failed))?;
    }
    Ok(Answer::from(failed == 0))
}

fn test(path: &Path) -> Result<Tested, Failure> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, error));
    let file = path.display().to_string();
    let scenario = Scenario::parse(&read(path)?).map_err(|error| Failure(format!("{file} is no scenario: {error}")))?;
    let beside = |name: &str| {
        let policy = path.parent().unwrap_or(Path::new("")).join(name);
        read(&policy).map_err(|Failure(message)| message)
    };
    let policy = scenario.policy_text(beside).map_err(|message| Failure(format!("{file}: {message}")))?;
    let (requests, differences) = match scenario.run(&policy, &Catalogue::builtin()) {
        Ok(observed) => (observed.len(), scenario.differences(&observed)),
        // A scenario whose policy has mistakes is a failed test, not a broken command.
        Err(mistakes) => (0, mistakes.lines().map(str::to_owned).collect()),
    };
    Ok(Tested { file, passed: differences.is_empty(), requests, differences })
}
