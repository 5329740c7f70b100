//! `cargo xtask test`: sets up, builds, runs every test in steps, and sums up truthfully.
//! Not here: the tests. They lie beside what they test; those with a real Envoy in `host-test`.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::envoy::fetch;
use crate::tools::{self, IfMissing};
use crate::{browser, build, npm, skip, workspace};

/// Runs everything, or with filters only the tests whose names contain one of them. False when anything failed.
///
/// # Errors
/// Only when the set-up fails: without it no result would mean anything.
pub fn run(if_missing: IfMissing, filters: &[String]) -> Result<bool> {
    let mut report = Report::default();
    println!("== set-up");
    tools::ensure_wasm_target(if_missing)?;
    let packages =
        [tools::REDIS_SERVER, tools::REDIS_SENTINEL, tools::WEBDIS, tools::CURL, tools::NODE, tools::PROMETHEUS];
    tools::ensure_packages(&packages, if_missing)?;
    npm::grafana_types(if_missing)?;
    browser::driver(if_missing)?;
    let envoy = fetch::binary(if_missing)?;
    println!("Envoy {}: {}", fetch::VERSION, envoy.display());

    report.step("build dist/", || build::run(if_missing).map(|()| Tally::default()));
    for step in steps(if_missing, filters) {
        report.step(step.name, || {
            let mut command = workspace::cargo();
            command.args(&step.words).env("TIDEGATE_WASM", workspace::wasm_file()).env("TIDEGATE_ENVOY", &envoy);
            run_and_tally(&mut command, std::io::stdout(), std::io::stderr())
        });
    }
    Ok(report.sum_up(workspace::is_ci()))
}

struct Step {
    name: &'static str,
    words: Vec<String>,
}

fn steps(if_missing: IfMissing, filters: &[String]) -> Vec<Step> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<String>>();
    // One call for all packages: separate calls would build shared dependencies once for each set of features.
    let mut tests = words("test --workspace --locked --no-fail-fast --lib --bins --tests --examples");
    if !filters.is_empty() {
        tests.push("--".into());
        tests.extend(filters.iter().cloned());
        return vec![Step { name: "tests that match", words: tests }];
    }
    let mut edge = words("run --quiet --locked -p xtask -- edge --test");
    if if_missing == IfMissing::Tell {
        edge.push("--no-install".into());
    }
    vec![
        Step { name: "units, properties, scenarios, Envoy end to end", words: tests },
        Step { name: "doc tests", words: words("test --workspace --locked --no-fail-fast --doc") },
        Step { name: "demo --check", words: words("run --quiet --locked -p xtask -- demo --check") },
        Step { name: "the npm package in its runtimes", words: edge },
    ]
}

/// What the output of one step tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    skips: Vec<String>,
    has_failed: bool,
}

impl Tally {
    /// Takes in one line of output: cargo's `test result: ok. 3 passed; 0 failed; ...`, or a skip.
    fn read(&mut self, line: &str) {
        if let Some(skip) = skip::in_line(line) {
            self.skips.push(skip.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let counted = |what: &str| -> u64 {
            let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            let pair = words.windows(2).find(|pair| pair.last() == Some(&what));
            pair.and_then(|pair| pair.first()?.parse().ok()).unwrap_or(0)
        };
        self.passed = self.passed.saturating_add(counted("passed"));
        self.failed = self.failed.saturating_add(counted("failed"));
        self.ignored = self.ignored.saturating_add(counted("ignored"));
    }
}

/// Runs a command, shows what it writes as it comes, and counts it.
fn run_and_tally(
    command: &mut Command,
    out: impl Write + Send + 'static,
    err: impl Write + Send + 'static,
) -> Result<Tally> {
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", workspace::line(command)))?;
    let (lines, arriving) = mpsc::channel();
    let readers = [
        child.stdout.take().map(|stream| forward(stream, out, lines.clone())),
        child.stderr.take().map(|stream| forward(stream, err, lines)),
    ];
    let mut tally = Tally::default();
    for line in arriving {
        tally.read(&line);
    }
    for reader in readers.into_iter().flatten() {
        let _ = reader.join();
    }
    let status = child.wait().with_context(|| format!("waiting for {}", workspace::line(command)))?;
    tally.has_failed = !status.success();
    Ok(tally)
}

fn forward(
    from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    lines: mpsc::Sender<String>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            // Where the terminal is gone, the counting goes on.
            let _ = writeln!(to, "{line}");
            let _ = lines.send(line);
        }
    })
}

/// All steps so far.
#[derive(Debug, Default)]
struct Report {
    steps: Vec<(String, Duration, Tally)>,
}

impl Report {
    /// Runs a step under its headline. A failure is noted, and the next step runs all the same.
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Tally>) {
        println!("\n== {name}");
        let start = Instant::now();
        let tally = work().unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Tally { has_failed: true, ..Tally::default() }
        });
        let took = start.elapsed();
        println!("== {name}: {} in {:.1} s", verdict(&tally), took.as_secs_f64());
        self.steps.push((name.to_owned(), took, tally));
    }

    /// Prints the summary; true when nothing failed.
    fn sum_up(&self, is_ci: bool) -> bool {
        println!("\n== summary");
        for (name, took, tally) in &self.steps {
            println!("{:>8}  {:>7.1} s  {name}", verdict(tally), took.as_secs_f64());
        }
        let skips: Vec<&String> = self.steps.iter().flat_map(|(.., tally)| &tally.skips).collect();
        for skip in &skips {
            println!("{} {skip}", skip::PREFIX);
        }
        if is_ci && !skips.is_empty() {
            println!("with CI=true nothing may be skipped: {} failed for that", skips.len());
        }
        let (passed, failed, ignored) = self.counts(is_ci);
        if ignored > 0 {
            println!("{ignored} ignored");
        }
        println!("{passed} passed, {failed} failed");
        failed == 0
    }

    /// Passed, failed and ignored tests. A step that failed without a failed test (it did not compile, the demo's
    /// check said no) counts as one failure, one that succeeded without tests as one success.
    fn counts(&self, is_ci: bool) -> (u64, u64, u64) {
        let mut counts = (0_u64, 0_u64, 0_u64);
        for (.., tally) in &self.steps {
            let skipped = if is_ci { tally.skips.len() as u64 } else { 0 };
            let step_alone = u64::from(tally.has_failed && tally.failed == 0);
            let is_plain_success = !tally.has_failed && tally.passed == 0;
            counts.0 = counts.0.saturating_add(tally.passed).saturating_add(u64::from(is_plain_success));
            counts.1 = counts.1.saturating_add(tally.failed).saturating_add(step_alone).saturating_add(skipped);
            counts.2 = counts.2.saturating_add(tally.ignored);
        }
        counts
    }
}

fn verdict(tally: &Tally) -> &'static str {
    if tally.has_failed { "FAILED" } else { "ok" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Tally {
        // Not to this program's own streams: there `cargo xtask test` would take these results for real ones.
        run_and_tally(Command::new("sh").args(["-c", script]), std::io::sink(), std::io::sink()).unwrap()
    }

    #[test]
    fn results_are_added_up_over_all_test_binaries() {
        let tally = shell(
            "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s'
             echo 'test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out'
             exit 101",
        );
        assert_eq!((tally.passed, tally.failed, tally.ignored, tally.has_failed), (7, 2, 1, true));
    }

    #[test]
    fn skips_are_collected_from_both_streams_and_fail_only_in_ci() {
        let tally = shell("echo 'SKIPPED: a: no b'; echo 'SKIPPED: c: no d' >&2; echo 'test result: ok. 1 passed;'");
        let mut skips = tally.skips.clone();
        skips.sort();
        assert_eq!(skips, ["a: no b", "c: no d"]);
        let mut report = Report::default();
        report.step("s", || Ok(tally));
        assert_eq!(report.counts(false), (1, 0, 0));
        assert_eq!(report.counts(true), (1, 2, 0));
    }

    #[test]
    fn a_step_that_fails_hides_no_other_and_is_counted() {
        let mut report = Report::default();
        report.step("does not compile", || Ok(shell("exit 101")));
        report.step("cannot start", || anyhow::bail!("no such thing"));
        report.step("passes", || Ok(shell("echo 'test result: ok. 5 passed; 0 failed'")));
        assert_eq!(report.counts(false), (5, 2, 0));
        assert!(!report.sum_up(false));
    }
}
