//! The audit trail: entries that each carry the hash of the one before, so that an edit, a gap or another order shows.
//! What is cut off at the end shows only to whoever noted the head elsewhere: the host's log has every entry.

use core::fmt;

use sha2::{Digest, Sha256};

use super::{hex, line, number, object, rfc3339, text};
use crate::policy::{Node, json};
use crate::time::Timestamp;

/// How many entries are kept, and fewer where they do not fit; older ones are in the host's log.
const MOST: usize = 256;

/// The action of the entries that have a trail of their own.
pub const LOGIN_FAILED: &str = "login_failed";

/// What an entry before the first has for its hash.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Counts from 1, without gaps.
    pub seq: u64,
    /// When, as RFC 3339 writes it.
    pub at: String,
    /// The name of the token, or `tidegate`.
    pub actor: String,
    /// What was done: one word.
    pub action: String,
    /// The rest, as an object.
    pub detail: Node,
    /// The hash of the entry before, in hexadecimal.
    pub prev: String,
    /// The hash of this one.
    pub hash: String,
}

/// The last entries, and where the chain stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trail {
    entries: Vec<Entry>,
    seq: u64,
    hash: Option<String>,
}

impl Entry {
    /// SHA-256 over what precedes and what happened, a line each. A JSON text has no line break, and no other part may.
    fn hash(&self) -> String {
        let lines =
            [&self.prev, &self.seq.to_string(), &self.at, &self.actor, &self.action, &sorted(&self.detail).to_json()];
        let mut hasher = Sha256::new();
        for line in lines {
            hasher.update(line.as_bytes());
            hasher.update(b"\n");
        }
        hex(&hasher.finalize())
    }

    /// The entry as the API shows it.
    pub fn node(&self) -> Node {
        object(&mut [
            ("seq", number(self.seq)),
            ("at", text(&self.at)),
            ("actor", text(&self.actor)),
            ("action", text(&self.action)),
            ("detail", self.detail.clone()),
            ("prev", text(&self.prev)),
            ("hash", text(&self.hash)),
        ])
    }

    /// The entry as one line of a log.
    pub fn line(&self) -> String {
        line(&self.node())
    }

    fn read(node: &Node) -> Option<Self> {
        let word = |name| node.word(name).map(str::to_owned);
        Some(Self {
            seq: node.get("seq")?.whole()?,
            at: word("at")?,
            actor: word("actor")?,
            action: word("action")?,
            detail: node.get("detail")?.clone(),
            prev: word("prev")?,
            hash: word("hash")?,
        })
    }
}

/// A value with the members of every object in the order of their names: tools that read and write JSON may change it,
/// and a trail that went through one must still be whole.
fn sorted(node: &Node) -> Node {
    match node {
        Node::List(entries) => Node::List(entries.iter().map(sorted).collect()),
        Node::Object(members) => {
            let mut ordered: Vec<(String, Node)> = Vec::with_capacity(members.len());
            for (name, value) in members {
                let at = ordered.partition_point(|(known, _)| known <= name);
                ordered.insert(at, (name.clone(), sorted(value)));
            }
            Node::Object(ordered)
        }
        _ => node.clone(),
    }
}

impl Trail {
    /// Adds what happened.
    pub fn append(&mut self, at: Timestamp, actor: &str, action: &str, detail: Node) {
        self.seq = self.seq.saturating_add(1);
        let mut entry = Entry {
            seq: self.seq,
            at: rfc3339::written(at),
            actor: actor.to_owned(),
            action: action.to_owned(),
            detail,
            prev: self.hash.take().unwrap_or_else(|| NO_HASH.to_owned()),
            hash: String::new(),
        };
        entry.hash = entry.hash();
        self.hash = Some(entry.hash.clone());
        self.entries.push(entry);
        if self.entries.len() > MOST {
            self.entries.remove(0);
        }
    }

    /// The entries after a number, with the head, as the API shows them.
    pub fn shown(&self, after: u64) -> Node {
        let entries = self.entries.iter().filter(|entry| entry.seq > after);
        let first = self.entries.first().map_or(self.seq.saturating_add(1), |entry| entry.seq);
        object(&mut [
            ("head", self.head()),
            ("entries", Node::List(entries.map(Entry::node).collect())),
            ("truncated", Node::Boolean(after.saturating_add(1) < first)),
        ])
    }

    /// The last entry.
    pub fn last(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// What `known` does not have yet; where that is nothing at all, the last entry.
    pub fn since(&self, known: &Self) -> &[Entry] {
        let after = if known.seq == 0 { self.seq.saturating_sub(1) } else { known.seq };
        let from = self.entries.partition_point(|entry| entry.seq <= after);
        self.entries.get(from..).unwrap_or_default()
    }

    /// The hash of the last entry.
    pub fn hash(&self) -> &str {
        self.hash.as_deref().unwrap_or(NO_HASH)
    }

    /// The last entry's number and hash; number 0 where there is none.
    pub fn head(&self) -> Node {
        object(&mut [("seq", number(self.seq)), ("hash", text(self.hash()))])
    }

    /// Writes it, to be stored: the last entries that have room in so many bytes.
    pub fn stored(&self, bytes: usize) -> Node {
        let mut left = bytes;
        let fits = |entry: &&Entry| {
            let rest = left.checked_sub(entry.node().to_json().len().saturating_add(1));
            left = rest.unwrap_or(0);
            rest.is_some()
        };
        let kept = self.entries.iter().rev().take_while(fits).count();
        let dropped = self.entries.len().saturating_sub(kept);
        let after = self.entries.get(dropped).map_or(self.seq, |entry| entry.seq.saturating_sub(1));
        self.shown(after)
    }

    /// Reads what [`Self::stored`] writes.
    pub fn restored(node: &Node) -> Option<Self> {
        let head = node.get("head")?;
        let seq = head.get("seq")?.whole()?;
        let entries = node.get("entries")?.entries().iter().map(Entry::read).collect::<Option<Vec<_>>>()?;
        Some(Self { entries, seq, hash: (seq > 0).then(|| head.word("hash").map(str::to_owned)).flatten() })
    }
}

/// What is wrong with a trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text is no answer of `/v1/audit` and no list of entries, a line each.
    Unreadable(usize),
    /// What an entry says does not fit its hash: it was edited.
    Edited(u64),
    /// An entry does not follow the one before: something is missing, or the order is another.
    Gap {
        /// The entry before; 0 where there is none.
        after: u64,
        /// The one that does not follow it.
        found: u64,
    },
    /// The chain does not end where it should: the end is cut off, or all of it was written anew.
    OtherHead,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(line) => write!(out, "line {line} is no audit entry"),
            Self::Edited(seq) => write!(out, "entry {seq} does not fit its own hash: it was edited"),
            Self::Gap { after, found } => {
                write!(out, "entry {found} does not follow entry {after}: something is missing or in another order")
            }
            Self::OtherHead => out.write_str("the chain does not end at the expected head"),
        }
    }
}

/// Checks a trail: an answer of `/v1/audit`, or the entries that the host's log has, a line each. `head` is the number
/// and hash that the last entry must have. Returns how many entries there are.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(trail: &[u8], head: Option<(u64, &str)>) -> Result<usize, Fault> {
    let whole = json::parse(trail).ok().and_then(|node| node.get("entries").map(|list| list.entries().to_vec()));
    let nodes = if let Some(nodes) = whole { nodes } else { entries_in_lines(trail)? };
    let mut last: Option<Entry> = None;
    for (index, node) in nodes.iter().enumerate() {
        let entry = Entry::read(node).ok_or(Fault::Unreadable(index.saturating_add(1)))?;
        let (after, prev) =
            last.as_ref().map_or((entry.seq.saturating_sub(1), None), |last| (last.seq, Some(&last.hash)));
        let starts_well = last.is_some() || entry.seq != 1 || entry.prev == NO_HASH;
        if entry.seq != after.saturating_add(1) || prev.is_some_and(|prev| *prev != entry.prev) || !starts_well {
            return Err(Fault::Gap { after, found: entry.seq });
        }
        if entry.hash() != entry.hash {
            return Err(Fault::Edited(entry.seq));
        }
        last = Some(entry);
    }
    let end = last.as_ref().map_or((0, NO_HASH), |last| (last.seq, last.hash.as_str()));
    if head.is_some_and(|head| head != end) {
        return Err(Fault::OtherHead);
    }
    Ok(nodes.len())
}

/// The entries of a log, a line each.
fn entries_in_lines(log: &[u8]) -> Result<Vec<Node>, Fault> {
    let lines = log.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let parse = |(index, line): (usize, &[u8])| {
        // A host puts its own words before the entry.
        let start = line.iter().position(|byte| *byte == b'{').unwrap_or(0);
        let entry = line.get(start..).unwrap_or_default();
        json::parse(entry).map_err(|_| Fault::Unreadable(index.saturating_add(1)))
    };
    let mut nodes = lines.map(parse).collect::<Result<Vec<Node>, _>>()?;
    // Failed logins are a trail of their own.
    nodes.retain(|node| node.word("action") != Some(LOGIN_FAILED));
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(entries: u64) -> Trail {
        let mut trail = Trail::default();
        for number in 0..entries {
            let detail = object(&mut [("user", text("zoë <img src=x onerror=alert(1)> \u{1b}[2J \n{\"seq\":9}"))]);
            trail.append(Timestamp::from_micros(1_800_000_000_000_000 + number), "ops", "granted", detail);
        }
        trail
    }

    fn lines(trail: &Trail) -> Vec<String> {
        trail.entries.iter().map(Entry::line).collect()
    }

    #[test]
    fn a_whole_trail_is_whole_in_both_forms() {
        let trail = trail(10);
        assert_eq!(verify(trail.shown(0).to_json().as_bytes(), None), Ok(10));
        assert_eq!(verify(lines(&trail).join("\n").as_bytes(), Some((10, trail.hash.as_deref().unwrap()))), Ok(10));
        assert!(lines(&trail).iter().all(|line| line.is_ascii() && !line.contains(['\u{1b}', '\n'])));
        assert_eq!(Trail::restored(&trail.stored(usize::MAX)), Some(trail));
    }

    #[test]
    fn an_edit_a_gap_and_another_order_show() {
        let good = lines(&trail(10));
        let check = |lines: &[String]| verify(lines.join("\n").as_bytes(), None);
        let mut edited = good.clone();
        edited[4] = edited[4].replace("alert(1)", "alert(2)");
        assert_eq!(check(&edited), Err(Fault::Edited(5)));
        let mut cut = good.clone();
        cut.remove(4);
        assert_eq!(check(&cut), Err(Fault::Gap { after: 4, found: 6 }));
        let mut swapped = good.clone();
        swapped.swap(4, 5);
        assert_eq!(check(&swapped), Err(Fault::Gap { after: 4, found: 6 }));
        let mut forged = good.clone();
        forged[0] = forged[0].replace("\"prev\":\"0", "\"prev\":\"1");
        assert!(check(&forged).is_err());
        assert_eq!(check(&["x".to_owned()]), Err(Fault::Unreadable(1)));
    }

    #[test]
    fn a_cut_end_and_a_rewritten_trail_show_to_who_knows_the_head() {
        let whole = trail(10);
        let head = (10, whole.hash.clone().unwrap());
        let head = Some((head.0, head.1.as_str()));
        assert_eq!(verify(lines(&whole)[..7].join("\n").as_bytes(), head), Err(Fault::OtherHead));
        let mut rewritten = Trail::default();
        (0..10).for_each(|n| rewritten.append(Timestamp::from_micros(n), "ops", "nothing", object(&mut [])));
        assert_eq!(verify(lines(&rewritten).join("\n").as_bytes(), head), Err(Fault::OtherHead));
    }

    #[test]
    fn what_has_no_room_is_left_off_from_the_front() {
        let trail = trail(9);
        let entry = trail.entries[8].node().to_json().len() + 1;
        for (bytes, kept) in [(usize::MAX, 9), (3 * entry, 3), (3 * entry - 1, 2), (0, 0)] {
            let mut restored = Trail::restored(&trail.stored(bytes)).unwrap();
            assert_eq!((restored.entries.len(), restored.head()), (kept, trail.head()));
            assert_eq!(restored.shown(0).get("truncated"), Some(&Node::Boolean(kept < 9)), "{kept} entries");
            assert_eq!(restored.shown(9).get("truncated"), Some(&Node::Boolean(false)));
            restored.append(Timestamp::default(), "ops", "revoked", object(&mut []));
            assert_eq!(verify(restored.shown(0).to_json().as_bytes(), None), Ok(kept + 1), "the chain goes on");
        }
    }

    #[test]
    fn only_the_last_entries_are_kept() {
        let trail = trail(1_000);
        assert_eq!(trail.entries.len(), MOST);
        let shown = trail.shown(0);
        assert_eq!(shown.get("truncated"), Some(&Node::Boolean(true)));
        assert_eq!(verify(shown.to_json().as_bytes(), None), Ok(MOST));
        assert_eq!(trail.shown(998).get("entries").unwrap().entries().len(), 2);
    }
}
