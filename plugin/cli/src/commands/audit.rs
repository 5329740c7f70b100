//! `tidegate audit`: the audit log of a running proxy, and whether anybody changed it.

mod chain;

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use ureq::http::Method;

use super::rows::{print, rows, table, text};
use crate::cli::{AuditArgs, AuditCommand, Target};
use crate::failure::{Answer, Failure};
use crate::remote::Reply;
use crate::screen::{Screen, Style, complain, visible};
use chain::{Head, Verdict};

/// The columns that come first.
const COLUMNS: [&str; 5] = ["seq", "at", "actor", "action", "detail"];

pub(super) fn run(args: &AuditArgs, screen: Screen) -> Result<Answer, Failure> {
    match &args.command {
        Some(AuditCommand::Verify { target, log, head }) => verify(target, log.as_deref(), head.as_deref(), screen),
        None => {
            let client = args.target.proxy_only("audit logs")?;
            let path = format!("/v1/audit?after={}", args.after);
            let Some(value) = client.json(&Method::GET, &path, None, &["entries"])? else { return Ok(Answer::No) };
            print(screen, &value, |value| shown(value, screen))?;
            Ok(Answer::Yes)
        }
    }
}

fn shown(value: &Value, screen: Screen) -> String {
    let mut entries = rows(value, "entries");
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        // Hashes are for `verify`, and for `--json`.
        entry.retain(|name, _| !["hash", "prev"].contains(&name.as_str()));
        if let Some(detail) = entry.get_mut("detail") {
            *detail = in_words(detail).into();
        }
    }
    let mut out = if entries.is_empty() { "no entries\n".to_owned() } else { table(&entries, &COLUMNS).text(screen) };
    if value.get("truncated") == Some(&Value::Bool(true)) {
        out.push_str("older entries are in the host's log\n");
    }
    let failed = value.get("failed_logins").and_then(|failed| failed.get("total")?.as_u64()).unwrap_or(0);
    if failed > 0 {
        out.push_str(&format!("\nfailed logins: {failed}\n"));
    }
    out
}

/// What an entry tells besides who and what: the values that matter, in the order in which people ask.
fn in_words(detail: &Value) -> String {
    const FIRST: [&str; 8] =
        ["rule", "override_id", "target_user_id", "target_ip", "target_endpoint", "target_rule", "reason", "key"];
    let known = FIRST.iter().filter_map(|name| detail.get(*name));
    let words = known.map(|value| match value.get("value") {
        Some(inner) => text(inner),
        None => text(value),
    });
    words.collect::<Vec<String>>().join(" ")
}

fn verify(target: &Target, log: Option<&Path>, head: Option<&str>, screen: Screen) -> Result<Answer, Failure> {
    let head = head.map(Head::parse).transpose()?;
    let lines = if let Some(path) = log {
        lines_of_log(path)?
    } else {
        let client = target.proxy_only("audit logs")?;
        match client.call(&Method::GET, "/v1/audit?after=0", None)? {
            Reply::Done(text) => lines_of_answer(&text)?,
            Reply::No(reason) => {
                complain(&format!("tidegate: {reason}"));
                return Ok(Answer::No);
            }
        }
    };
    let verdict = chain::verify(&lines, head.as_ref());
    tell(&verdict, screen)?;
    Ok(Answer::from(verdict.faults.is_empty()))
}

fn tell(verdict: &Verdict, screen: Screen) -> Result<(), Failure> {
    let last = verdict.head.as_ref().map(|head| head.seq);
    let head = verdict.head.as_ref().map(|head| format!("{}:{}", head.seq, head.hash));
    if screen.is_json {
        return Screen::print_json(&json!({
            "ok": verdict.faults.is_empty(), "entries": verdict.entries, "first": verdict.first, "last": last,
            "head": head, "restarts": verdict.restarts, "faults": verdict.faults,
        }));
    }
    let faults: String = verdict.faults.iter().map(|fault| format!("{}\n", visible(fault))).collect();
    let is_good = verdict.faults.is_empty();
    let word = if is_good { screen.paint(Style::Green, "ok") } else { screen.paint(Style::Red, "not ok") };
    let count = match verdict.entries {
        0 => "no entries".to_owned(),
        1 => "1 entry".to_owned(),
        count => format!("{count} entries"),
    };
    let range = match (verdict.first, last) {
        (Some(first), Some(last)) if verdict.restarts > 0 => {
            format!("{count}, {first} to {last} since the proxy's last of {} restarts", verdict.restarts)
        }
        (Some(first), Some(last)) => format!("{count}, {first} to {last}"),
        _ => count,
    };
    let head = head.map_or_else(String::new, |head| format!(", head {head}"));
    screen.print(&format!("{faults}audit log: {word}, {range}{}\n", visible(&head)))
}

fn lines_of_answer(text: &str) -> Result<Vec<String>, Failure> {
    #[derive(serde::Deserialize)]
    struct Entries<'a> {
        #[serde(borrow)]
        entries: Vec<&'a RawValue>,
    }
    let answer: Entries<'_> =
        serde_json::from_str(text).map_err(|_| "the answer holds no audit log: is it the admin API?")?;
    Ok(answer.entries.iter().map(|entry| entry.get().to_owned()).collect())
}

/// Hosts put a time and more before what a plugin logs, and perhaps something after it.
fn lines_of_log(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| Failure::file("read", path, error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut lines = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(failed)?;
        let line = String::from_utf8_lossy(&line);
        if let Some(start) = line.find("{\"seq\":")
            && let Some(entry) = line.get(start..)
            && let Some(end) = entry.rfind('}')
        {
            lines.push(entry.get(..=end).unwrap_or(entry).to_owned());
        }
    }
    Ok(lines)
}
