//! `tidegate audit`: the audit log of a running proxy, and whether anybody changed it.

mod chain;

use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::json;
use serde_json::value::RawValue;
use ureq::http::Method;

use super::rows::{print, rows, table};
use crate::cli::{AuditArgs, AuditCommand, Target};
use crate::failure::{Answer, Failure};
use crate::remote::Reply;
use crate::screen::{Screen, Style, complain, visible};
use chain::{Chain, Head};

/// The columns that come first.
const COLUMNS: [&str; 6] = ["seq", "at", "event", "admin_id", "rule", "override_id"];

pub(super) fn run(args: &AuditArgs, screen: Screen) -> Result<Answer, Failure> {
    match &args.command {
        Some(AuditCommand::Verify { target, log, head }) => verify(target, log.as_deref(), head.as_deref(), screen),
        None => {
            let client = args.target.proxy_only("audit logs")?;
            let path = format!("/v1/audit?after={}", args.after);
            let Some(value) = client.json(&Method::GET, &path, None)? else { return Ok(Answer::No) };
            print(screen, &value, |value| {
                let mut entries = rows(value, "entries");
                for entry in entries.iter_mut().filter_map(serde_json::Value::as_object_mut) {
                    // Hashes are for `verify`, and for `--json`.
                    entry.retain(|name, _| !["hash", "prev", "prev_hash", "previous"].contains(&name.as_str()));
                }
                if entries.is_empty() { "no entries\n".to_owned() } else { table(&entries, &COLUMNS).text(screen) }
            })?;
            Ok(Answer::Yes)
        }
    }
}

fn verify(target: &Target, log: Option<&Path>, head: Option<&str>, screen: Screen) -> Result<Answer, Failure> {
    let head = head.map(Head::parse).transpose()?;
    let mut chain = Chain::default();
    if let Some(path) = log {
        read_log(path, &mut chain)?;
    } else {
        let client = target.proxy_only("audit logs")?;
        match client.call(&Method::GET, "/v1/audit?after=0", None)? {
            Reply::Done(text) => read_answer(&text, &mut chain)?,
            Reply::No(reason) => {
                complain(&format!("tidegate: {reason}"));
                return Ok(Answer::No);
            }
        }
    }
    let verdict = chain.finish(head.as_ref());
    if screen.is_json {
        Screen::print_json(&json!({
            "ok": verdict.faults.is_empty(), "entries": verdict.entries, "first": verdict.first,
            "last": verdict.last, "head": verdict.head, "faults": verdict.faults,
        }))?;
    } else {
        let faults: String = verdict.faults.iter().map(|fault| format!("{}\n", visible(fault))).collect();
        let is_good = verdict.faults.is_empty();
        let word = if is_good { screen.paint(Style::Green, "ok") } else { screen.paint(Style::Red, "not ok") };
        let range = match (verdict.first, verdict.last) {
            (Some(first), Some(last)) => format!("{} entries, {first} to {last}", verdict.entries),
            _ => "no entries".to_owned(),
        };
        let head = verdict.head.as_ref().map_or_else(String::new, |head| format!(", head {head}"));
        screen.print(&format!("{faults}audit log: {word}, {range}{}\n", visible(&head)))?;
    }
    Ok(Answer::from(verdict.faults.is_empty()))
}

fn read_answer(text: &str, chain: &mut Chain) -> Result<(), Failure> {
    #[derive(serde::Deserialize)]
    struct Entries<'a> {
        #[serde(borrow)]
        entries: Vec<&'a RawValue>,
    }
    let answer: Entries<'_> =
        serde_json::from_str(text).map_err(|error| format!("the answer holds no audit log: {error}"))?;
    answer.entries.iter().for_each(|entry| chain.add(entry.get()));
    Ok(())
}

/// Hosts put a time and more before what a plugin logs, and perhaps something after it.
fn read_log(path: &Path, chain: &mut Chain) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file("read", path, error);
    let file = std::fs::File::open(path).map_err(failed)?;
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(failed)?;
        let line = String::from_utf8_lossy(&line);
        if let Some(start) = line.find("{\"seq\":")
            && let Some(entry) = line.get(start..)
            && let Some(end) = entry.rfind('}')
        {
            chain.add(entry.get(..=end).unwrap_or(entry));
        }
    }
    Ok(())
}
