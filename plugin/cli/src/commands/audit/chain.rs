//! The audit trail as `verify` looks at it: which entries there are, what the engine's own check says of them, and
//! whether one that somebody noted elsewhere is among them. What an entry's hash covers is the engine's to know.

use serde_json::Value;
use tidegate_engine::admin::audit;

use crate::failure::Failure;

/// The number and hash of an entry, as they stand somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: String,
}

/// One entry: its line, and what is needed of it here.
#[derive(Clone, Debug)]
struct Link {
    line: String,
    seq: u64,
    at: String,
    hash: String,
}

/// Entries that follow each other from one start of the proxy on.
type Run = Vec<Link>;

/// What is to be said of a trail.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) entries: usize,
    pub(super) first: Option<u64>,
    /// The last entry, to be kept elsewhere.
    pub(super) head: Option<Head>,
    /// How often the proxy began anew within the log.
    pub(super) restarts: usize,
    pub(super) faults: Vec<String>,
}

impl Head {
    /// Reads `SEQ:HASH`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let parsed = text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.to_ascii_lowercase())));
        match parsed {
            Some((seq, hash)) if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(Self { seq, hash })
            }
            _ => Err("--head is a number, a colon and 64 hexadecimal digits".into()),
        }
    }
}

/// Verifies entries, a line each as the proxy wrote them; `head` is an entry that must be among them.
pub(super) fn verify(lines: &[String], head: Option<&Head>) -> Verdict {
    let mut faults = Vec::new();
    let mut entries = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        match link(line) {
            Ok(entry) => entries.extend(entry),
            Err(()) => faults.push(format!("entry {} of the log has no seq, at and hash", index + 1)),
        }
    }
    let runs = runs(entries);
    for run in &runs {
        if let Err(fault) = audit::verify(joined(run).as_bytes(), None) {
            faults.push(fault.to_string());
        }
    }
    if let Some(head) = head {
        faults.extend(missing(&runs, head));
    }
    let last = runs.last().and_then(|run| run.last());
    Verdict {
        entries: runs.iter().map(Vec::len).sum(),
        first: runs.last().and_then(|run| run.first()).map(|link| link.seq),
        head: last.map(|link| Head { seq: link.seq, hash: link.hash.clone() }),
        restarts: runs.len().saturating_sub(1),
        faults,
    }
}

/// Why the trail does not hold the entry that was noted elsewhere, if it does not.
fn missing(runs: &[Run], head: &Head) -> Option<String> {
    let is_there = |run: &Run| {
        let until = run.iter().position(|link| link.seq == head.seq).map_or(0, |at| at + 1);
        let start = run.get(..until).unwrap_or_default();
        until > 0 && audit::verify(joined(start).as_bytes(), Some((head.seq, &head.hash))).is_ok()
    };
    if runs.iter().any(is_there) {
        return None;
    }
    let is_known = runs.iter().flatten().any(|link| link.seq == head.seq);
    let what = if is_known { "is not the one that --head names" } else { "which --head names, is not in the log" };
    Some(format!("entry {}{} {what}", head.seq, if is_known { "" } else { "," }))
}

/// A proxy that starts begins with entry 1 again, later than all that it wrote before. An entry 1 that is not later was
/// put there by somebody, and stays where it breaks the chain.
fn runs(links: Vec<Link>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for link in links {
        match runs.last_mut() {
            Some(run) if link.seq != 1 || run.last().is_some_and(|last| link.at <= last.at) => run.push(link),
            _ => runs.push(vec![link]),
        }
    }
    runs
}

fn joined(run: &[Link]) -> String {
    run.iter().map(|link| format!("{}\n", link.line)).collect()
}

/// Failed logins have a trail of their own, and are none of this one.
fn link(line: &str) -> Result<Option<Link>, ()> {
    let value: Value = serde_json::from_str(line).map_err(|_| ())?;
    let word = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(());
    if word("action")? == audit::LOGIN_FAILED {
        return Ok(None);
    }
    let seq = value.get("seq").and_then(Value::as_u64).ok_or(())?;
    Ok(Some(Link { line: line.to_owned(), seq, at: word("at")?, hash: word("hash")? }))
}

#[cfg(test)]
mod tests {
    use tidegate_engine::Timestamp;
    use tidegate_engine::admin::audit::Trail;
    use tidegate_engine::admin::{object, text};

    use super::*;

    /// Entries 1 to `count` of a proxy that started at a second.
    fn log(start: u64, count: u64) -> Vec<String> {
        let mut trail = Trail::default();
        let entry = |number| {
            let at = Timestamp::from_micros((start + number) * 1_000_000);
            trail.append(at, "ops", "override_given", object(&mut [("target_user_id", text("zo\u{eb}"))]));
            trail.last().unwrap().line()
        };
        (0..count).map(entry).collect()
    }

    fn faults(lines: &[String], head: Option<&Head>) -> Vec<String> {
        verify(lines, head).faults
    }

    #[test]
    fn an_edit_a_gap_and_another_order_are_found() {
        let good = log(1_800_000_000, 6);
        let verdict = verify(&good, None);
        assert_eq!((verdict.entries, verdict.first, verdict.restarts), (6, Some(1), 0));
        assert!(verdict.faults.is_empty() && faults(&good[3..], None).is_empty());
        let mut edited = good.clone();
        edited[2] = edited[2].replace("\"ops\"", "\"me\"");
        assert_eq!(faults(&edited, None), ["entry 3 does not fit its own hash: it was edited"]);
        let mut cut = good.clone();
        cut.remove(2);
        assert!(faults(&cut, None)[0].starts_with("entry 4 does not follow entry 2"));
        let mut swapped = good.clone();
        swapped.swap(2, 3);
        assert!(faults(&swapped, None)[0].starts_with("entry 4 does not follow entry 2"));
        let first_moved = [good[1].clone(), good[0].clone()];
        assert!(faults(&first_moved, None)[0].starts_with("entry 1 does not follow entry 2"));
        assert_eq!(faults(&["{\"seq\":1}".to_owned()], None), ["entry 1 of the log has no seq, at and hash"]);
    }

    #[test]
    fn a_head_kept_elsewhere_shows_a_cut_end_and_a_rewritten_log_and_does_not_age() {
        let good = log(1_800_000_000, 6);
        let head = verify(&good[..4], None).head.unwrap();
        assert!(faults(&good, Some(&head)).is_empty(), "later entries change nothing");
        assert!(faults(&good[2..], Some(&head)).is_empty(), "neither do older ones that are gone");
        assert_eq!(faults(&good[..3], Some(&head)), ["entry 4, which --head names, is not in the log"]);
        assert_eq!(faults(&log(1_700_000_000, 6), Some(&head)), ["entry 4 is not the one that --head names"]);
        assert!(Head::parse("8:xyz").is_err() && Head::parse("4").is_err());
    }

    #[test]
    fn a_proxy_that_started_anew_begins_anew() {
        let mut both = log(1_800_000_000, 3);
        both.extend(log(1_800_001_000, 2));
        let verdict = verify(&both, None);
        assert_eq!((verdict.entries, verdict.restarts, verdict.head.map(|head| head.seq)), (5, 1, Some(2)));
        assert!(verdict.faults.is_empty(), "{:?}", verdict.faults);
        let old = verify(&log(1_800_000_000, 3), None).head.unwrap();
        assert!(faults(&both, Some(&old)).is_empty());
        let mut backwards = log(1_800_001_000, 2);
        backwards.extend(log(1_800_000_000, 3));
        assert_eq!(faults(&backwards, None).len(), 1);
    }
}
