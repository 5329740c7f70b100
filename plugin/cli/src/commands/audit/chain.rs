//! The audit log's hash chain. An entry is one line of JSON, `{"seq":N,...,"prev":"HEX","hash":"HEX"}`: `hash` is the
//! last member, the SHA-256 of the line's bytes up to the comma before it, and `prev` is the hash of entry N - 1. So
//! the bytes count as they were written, and nobody has to agree on how JSON is written canonically.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// More faults than this are not told: the first one says where to look.
const MOST_FAULTS: usize = 20;

/// The number and hash of an entry, as they stand somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    seq: u64,
    hash: String,
}

/// Entries as they come.
#[derive(Debug, Default)]
pub(super) struct Chain {
    entries: u64,
    first: Option<u64>,
    last: Option<Head>,
    hashes: std::collections::BTreeMap<u64, String>,
    faults: Vec<String>,
}

/// What is to be said of a log.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) entries: u64,
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
    /// The last entry as `SEQ:HASH`, to be kept elsewhere.
    pub(super) head: Option<String>,
    pub(super) faults: Vec<String>,
}

#[derive(Deserialize)]
struct Links {
    seq: u64,
    #[serde(alias = "prev_hash", alias = "previous")]
    prev: String,
    hash: String,
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

impl Chain {
    /// Adds the next entry, as it was written.
    pub(super) fn add(&mut self, line: &str) {
        let position = self.entries + 1;
        self.entries = position;
        let Ok(links) = serde_json::from_str::<Links>(line) else {
            self.fault(format!("entry {position} of the log has no seq, prev and hash"));
            return;
        };
        let seq = links.seq;
        let end = format!(",\"hash\":\"{}\"}}", links.hash);
        match line.strip_suffix(&end) {
            Some(covered) if sha256(covered) == links.hash => {}
            Some(_) => self.fault(format!("entry {seq} was changed: its hash is another")),
            None => self.fault(format!("entry {seq} does not end with its hash")),
        }
        if let Some(last) = self.last.clone() {
            if seq != last.seq.saturating_add(1) {
                self.fault(format!("entry {seq} follows {}: entries are missing or moved", last.seq));
            } else if links.prev != last.hash {
                self.fault(format!("entry {seq} does not follow this entry {}: one of them was replaced", last.seq));
            }
        }
        self.first.get_or_insert(seq);
        self.hashes.insert(seq, links.hash.clone());
        self.last = Some(Head { seq, hash: links.hash });
    }

    /// The end: compares with an entry that stands elsewhere.
    pub(super) fn finish(mut self, head: Option<&Head>) -> Verdict {
        if let Some(head) = head {
            match self.hashes.get(&head.seq) {
                Some(hash) if *hash == head.hash => {}
                Some(_) => self.fault(format!("entry {} is not the one that --head names", head.seq)),
                None => self.fault(format!("entry {}, which --head names, is not in the log", head.seq)),
            }
        }
        Verdict {
            entries: self.entries,
            first: self.first,
            last: self.last.as_ref().map(|last| last.seq),
            head: self.last.as_ref().map(|last| format!("{}:{}", last.seq, last.hash)),
            faults: self.faults,
        }
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vec<String> {
        let mut prev = "0".repeat(64);
        let mut lines = Vec::new();
        for seq in 5..9 {
            let covered = format!("{{\"seq\":{seq},\"event\":\"grant\",\"prev\":\"{prev}\"");
            prev = sha256(&covered);
            lines.push(format!("{covered},\"hash\":\"{prev}\"}}"));
        }
        lines
    }

    fn faults(lines: &[String], head: Option<&Head>) -> Vec<String> {
        let mut chain = Chain::default();
        for line in lines {
            chain.add(line);
        }
        chain.finish(head).faults
    }

    #[test]
    fn any_change_is_found() {
        let good = log();
        assert!(faults(&good, None).is_empty());
        let mut changed = good.clone();
        changed[1] = changed[1].replace("grant", "Grant");
        assert_eq!(faults(&changed, None), ["entry 6 was changed: its hash is another"]);
        let mut missing = good.clone();
        missing.remove(1);
        assert_eq!(faults(&missing, None), ["entry 7 follows 5: entries are missing or moved"]);
        let mut moved = good.clone();
        moved.swap(1, 2);
        assert_eq!(faults(&moved, None).len(), 3);
        let mut rewritten = good.clone();
        let covered = "{\"seq\":6,\"event\":\"nothing\",\"prev\":\"x\"";
        rewritten[1] = format!("{covered},\"hash\":\"{}\"}}", sha256(covered));
        assert_eq!(faults(&rewritten, None).len(), 2);
    }

    #[test]
    fn entries_cut_off_the_end_are_missed_where_the_head_stands_elsewhere() {
        let good = log();
        let mut chain = Chain::default();
        for line in &good {
            chain.add(line);
        }
        let head = Head::parse(&chain.finish(None).head.unwrap()).unwrap();
        assert!(faults(&good, Some(&head)).is_empty());
        assert_eq!(faults(&good[..2], Some(&head)), ["entry 8, which --head names, is not in the log"]);
        let other = Head { seq: 8, hash: "0".repeat(64) };
        assert_eq!(faults(&good, Some(&other)), ["entry 8 is not the one that --head names"]);
        assert!(Head::parse("8:xyz").is_err());
    }
}
