//! What a replay found, for people and for machines.

use serde_json::{Value, json};
use tidegate_engine::Timestamp;
use tidegate_engine::identity::Kind;
use tidegate_engine::replay::{Changes, Offender, Outcomes, Report, RuleReport, RunReport};

use super::BadLines;
use crate::cli::ReplayArgs;
use crate::moment::show;
use crate::screen::{Align, Screen, Style, Table, visible};

pub(super) fn text(args: &ReplayArgs, report: &Report, bad: &BadLines, screen: Screen) -> String {
    let mut out = String::new();
    let span = match (report.first, report.last) {
        (Some(first), Some(last)) => format!(" from {} to {}", show(first), show(last)),
        _ => String::new(),
    };
    out.push_str(&format!("{} requests{span}\n", report.requests));
    if bad.count > 0 {
        let word = if bad.count == 1 { "line" } else { "lines" };
        out.push_str(&screen.paint(Style::Yellow, &format!("{} bad {word} passed over", bad.count)));
        out.push('\n');
        for line in &bad.shown {
            out.push_str(&format!("  line {}: {}: {}\n", line.line, line.wrong, visible(&line.text)));
        }
    }
    if report.late > 0 {
        let seconds = report.latest_by.secs_ceil();
        out.push_str(&format!("{} requests out of order by up to {seconds} s, decided late\n", report.late));
    }
    if report.clock_steps > 0 {
        let times = if report.clock_steps == 1 { "once".to_owned() } else { format!("{} times", report.clock_steps) };
        let told = format!(
            "the log's clock stepped back by more than an hour {times}: counters began anew there; if this is more than \
             one log, sort its lines by time"
        );
        out.push_str(&format!("{}\n", screen.paint(Style::Yellow, &told)));
    }
    if report.answered_429 > 0 {
        out.push_str(&format!("{} were answered 429 when they were logged\n", report.answered_429));
    }
    out.push('\n');
    out.push_str(&screen.paint(Style::Bold, &visible(&args.policy.display().to_string())));
    out.push('\n');
    run(&report.run, report.requests, screen, &mut out);
    if let Some(changes) = &report.candidate {
        let name = args.candidate.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        out.push_str(&format!("\n{}\n", screen.paint(Style::Bold, &visible(&name))));
        run(&changes.run, report.requests, screen, &mut out);
        changed(changes, screen, &mut out);
    }
    out
}

fn run(run: &RunReport, requests: u64, screen: Screen, out: &mut String) {
    for (word, count) in words(&run.outcomes).into_iter().filter(|(_, count)| *count > 0) {
        let style = if word == "limited" { Style::Red } else { Style::Green };
        out.push_str(&format!("{} {count} ({})\n", screen.paint(style, word), percent(count, requests)));
    }
    if run.given_up.limiting > 0 {
        out.push_str(&format!("{} counters that still limited were given up: raise max_keys\n", run.given_up.limiting));
    }
    let right = |name| (name, Align::Right);
    let mut table = Table::new(&[
        ("RULE", Align::Left),
        right("TOTAL"),
        right("ALLOWED"),
        right("LIMITED"),
        right("DELAYED"),
        right("QUEUED"),
        right("DEGRADED"),
        right("SHADOW"),
        ("FIRST LIMITED", Align::Left),
    ]);
    for rule in &run.rules {
        let counts =
            [rule.total, rule.allowed, rule.limited, rule.delayed, rule.queued, rule.degraded, rule.shadow_limited];
        let first = rule.first_limited.map_or_else(|| "-".to_owned(), show);
        let counts = counts.iter().map(ToString::to_string);
        table.row(std::iter::once(rule.name.clone()).chain(counts).chain([first]));
    }
    if !table.is_empty() {
        out.push_str(&format!("\n{}", table.text(screen)));
    }
    let mut worst: Vec<(&str, &Offender)> =
        run.rules.iter().flat_map(|rule| rule.offenders.iter().map(|one| (rule.name.as_str(), one))).collect();
    worst.sort_by_key(|(_, offender)| std::cmp::Reverse(offender.count));
    let most = run.rules.iter().map(|rule| rule.offenders.len()).max().unwrap_or(0);
    worst.truncate(most);
    offenders("worst offenders", &worst, screen, out);
}

fn offenders(heading: &str, worst: &[(&str, &Offender)], screen: Screen, out: &mut String) {
    if worst.is_empty() {
        return;
    }
    let mut table = Table::new(&[
        ("TIMES", Align::Right),
        ("RULE", Align::Left),
        ("WHO", Align::Left),
        ("FIRST", Align::Left),
        ("LAST", Align::Left),
    ]);
    for (rule, one) in worst {
        table.row([times(one), (*rule).to_owned(), who(one), show(one.first), show(one.last)]);
    }
    out.push_str(&format!("\n{heading}\n{}", table.text(screen)));
}

fn changed(changes: &Changes, screen: Screen, out: &mut String) {
    if changes.changes.is_empty() {
        out.push_str("\nno request would end in another way\n");
        return;
    }
    let mut table = Table::new(&[("REQUESTS", Align::Right), ("NOW", Align::Left), ("THEN", Align::Left)]);
    for change in &changes.changes {
        table.row([change.requests.to_string().as_str(), change.from, change.to]);
    }
    out.push_str(&format!("\nwhat it would change\n{}", table.text(screen)));
    let mut table = Table::new(&[("TIMES", Align::Right), ("NEWLY LIMITED", Align::Left), ("FIRST", Align::Left)]);
    for one in &changes.newly_limited {
        table.row([times(one), who(one), show(one.first)]);
    }
    if !table.is_empty() {
        out.push_str(&format!("\n{}", table.text(screen)));
    }
}

fn times(offender: &Offender) -> String {
    if offender.error > 0 { format!("at most {}", offender.count) } else { offender.count.to_string() }
}

fn who(offender: &Offender) -> String {
    match (&offender.label, offender.kind) {
        (_, Kind::Global) => "everybody".to_owned(),
        (_, Kind::Anonymous) => "all without a user".to_owned(),
        (Some(label), _) => label.clone(),
        (None, _) => format!("user {}", hex(&offender.digest)),
    }
}

fn percent(count: u64, of: u64) -> String {
    let tenths = count.saturating_mul(1000).checked_div(of).unwrap_or(0);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn words(outcomes: &Outcomes) -> [(&'static str, u64); 6] {
    [
        ("unlimited", outcomes.unlimited),
        ("allowed", outcomes.allowed),
        ("degraded", outcomes.degraded),
        ("delayed", outcomes.delayed),
        ("queued", outcomes.queued),
        ("limited", outcomes.limited),
    ]
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn json(report: &Report) -> Value {
    json!({
        "requests": report.requests,
        "answered_429": report.answered_429,
        "first": report.first.map(show),
        "last": report.last.map(show),
        "late": report.late,
        "latest_by_seconds": report.latest_by.secs_ceil(),
        "clock_steps": report.clock_steps,
        "policy": run_json(&report.run),
        "candidate": report.candidate.as_ref().map(|changes| json!({
            "policy": run_json(&changes.run),
            "changes": changes.changes.iter()
                .map(|change| json!({"from": change.from, "to": change.to, "requests": change.requests}))
                .collect::<Vec<Value>>(),
            "newly_limited": changes.newly_limited.iter().map(offender_json).collect::<Vec<Value>>(),
        })),
    })
}

fn run_json(run: &RunReport) -> Value {
    let outcomes: serde_json::Map<String, Value> =
        words(&run.outcomes).into_iter().map(|(word, count)| (word.to_owned(), count.into())).collect();
    json!({
        "outcomes": outcomes,
        "counters_given_up": run.given_up.limiting,
        "rules": run.rules.iter().map(rule_json).collect::<Vec<Value>>(),
    })
}

fn rule_json(rule: &RuleReport) -> Value {
    json!({
        "name": rule.name,
        "total": rule.total,
        "allowed": rule.allowed,
        "limited": rule.limited,
        "delayed": rule.delayed,
        "queued": rule.queued,
        "degraded": rule.degraded,
        "shadow_limited": rule.shadow_limited,
        "first_limited": rule.first_limited.map(show),
        "offenders": rule.offenders.iter().map(offender_json).collect::<Vec<Value>>(),
    })
}

fn offender_json(offender: &Offender) -> Value {
    let moment = |moment: Timestamp| show(moment);
    json!({
        "who": who(offender),
        "digest": hex(&offender.digest),
        "count": offender.count,
        "error": offender.error,
        "first": moment(offender.first),
        "last": moment(offender.last),
    })
}
