//! `tidegate check`: every mistake of a policy file where it stands, and what is probably not meant.

use serde::Serialize;

use crate::cli::CheckArgs;
use crate::failure::{Answer, Failure};
use crate::policy_file::{PolicyFile, Remark};
use crate::screen::{Screen, Style, visible};

#[derive(Serialize)]
struct Checked {
    file: String,
    valid: bool,
    rules: usize,
    mistakes: Vec<Remark>,
    mistakes_left_off: usize,
    warnings: Vec<Remark>,
}

pub(super) fn run(args: &CheckArgs, screen: Screen) -> Result<Answer, Failure> {
    let file = PolicyFile::read(&args.file)?;
    let name = args.file.display().to_string();
    let parsed = file.parse();
    let (mistakes, warnings, rules, left_off) = match &parsed {
        Ok(policy) => (Vec::new(), file.warnings(policy), policy.rules.len(), 0),
        Err(mistakes) => (file.mistakes(mistakes), Vec::new(), 0, mistakes.left_off()),
    };
    let is_good = parsed.is_ok() && (!args.deny_warnings || warnings.is_empty());
    if screen.is_json {
        let valid = parsed.is_ok();
        Screen::print_json(&Checked { file: name, valid, rules, mistakes, mistakes_left_off: left_off, warnings })?;
        return Ok(Answer::from(is_good));
    }
    let mut out = match &parsed {
        Ok(_) => file.shown(&warnings, "warning", Style::Yellow, screen),
        Err(mistakes) => file.shown_mistakes(mistakes, screen),
    };
    let verdict = if is_good { screen.paint(Style::Green, "ok") } else { screen.paint(Style::Red, "not ok") };
    let counted = match parsed {
        Ok(_) => format!("{}, {}", count(rules, "rule"), count(warnings.len(), "warning")),
        Err(_) => count(mistakes.len() + left_off, "mistake"),
    };
    out.push_str(&format!("{}: {verdict}, {counted}\n", visible(&name)));
    screen.print(&out)?;
    Ok(Answer::from(is_good))
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}
