//! All that the admin API changes, as one value: whoever writes it writes a change and its audit entry in one step.
//! Where it is kept is the filter's.

use super::audit::Trail;
use super::grant::Grant;
use super::{number, object, text};
use crate::policy::{Node, json};
use crate::time::Timestamp;

/// The layout of the bytes; another one is nothing.
const LAYOUT: u64 = 1;
/// The most rules put at run time, and the most grants, at one time.
const MOST_RULES: usize = 100;
const MOST_GRANTS: usize = 256;
/// The most bytes of rules and grants together.
const MOST_PUT_BYTES: usize = 350_000;
/// What is kept free of both for kill switches, so that nothing fills the way of the last resort: 16 with the longest
/// note have 42,000 bytes.
const SPARE_GRANTS: usize = 16;
const SPARE_BYTES: usize = 50_000;
/// The most bytes without baselines: the audit trail has what rules and grants leave of it, 99,000 at the least. A store's
/// answer may have 1 MiB, and as a text within it this may grow to twice its size.
const MOST_BYTES: usize = 500_000;
/// No state has more: 1,000 baselines, which never leave the proxy, have 350,000 at most.
const MOST_READ: usize = 1_000_000;
/// More than all that is written between and around the members.
const FRAME: usize = 1_000;

/// The state at run time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runtime {
    /// Grows by one with every change.
    pub generation: u64,
    /// The rules that are laid over the file's.
    pub rules: Vec<Node>,
    /// The grants, those just ended among them until somebody looks.
    pub grants: Vec<Grant>,
    /// Where counting starts anew.
    pub baselines: Vec<Baseline>,
    /// What was done.
    pub trail: Trail,
}

/// What a rule's counters stood at when they were reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// The rule's name.
    pub rule: String,
    /// When.
    pub at: Timestamp,
    /// The counters, in the order of whoever keeps them.
    pub counts: Vec<u64>,
}

/// Why a change is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such thing.
    Absent,
    /// There is no room for more.
    Full,
}

impl Runtime {
    /// Reads what [`Self::bytes`] writes; `None` for anything else. No bytes are a state in which nothing was done.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        if bytes.len() > MOST_READ {
            return None;
        }
        let node = json::parse(bytes).ok()?;
        if node.get("layout")?.whole()? != LAYOUT {
            return None;
        }
        let baseline = |node: &Node| {
            Some(Baseline {
                rule: node.word("rule")?.to_owned(),
                at: Timestamp::from_micros(node.get("at_us")?.whole()?),
                counts: node.get("counts")?.entries().iter().map(Node::whole).collect::<Option<_>>()?,
            })
        };
        Some(Self {
            generation: node.get("generation")?.whole()?,
            rules: node.get("rules")?.entries().to_vec(),
            grants: node.get("grants")?.entries().iter().map(Grant::restored).collect::<Option<_>>()?,
            baselines: node.get("baselines")?.entries().iter().map(baseline).collect::<Option<_>>()?,
            trail: Trail::restored(node.get("audit")?)?,
        })
    }

    /// Writes it down. Of the audit trail it takes the last entries that fit.
    ///
    /// # Errors
    /// Rules and grants are more than [`Self::put_rule`] and [`Self::give`] let in.
    pub fn bytes(&self) -> Result<Vec<u8>, Refused> {
        self.written(&self.baselines).map(String::into_bytes)
    }

    /// Writes down what a fleet shares: all but the baselines, since every proxy counts for itself.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn to_spread(&self) -> Result<String, Refused> {
        self.written(&[])
    }

    fn written(&self, baselines: &[Baseline]) -> Result<String, Refused> {
        let baseline = |baseline: &Baseline| {
            object(&mut [
                ("rule", text(&baseline.rule)),
                ("at_us", number(baseline.at.micros())),
                ("counts", Node::List(baseline.counts.iter().map(|count| number(*count)).collect())),
            ])
        };
        let left = MOST_BYTES.checked_sub(FRAME.saturating_add(self.put_bytes())).ok_or(Refused::Full)?;
        let node = object(&mut [
            ("layout", number(LAYOUT)),
            ("generation", number(self.generation)),
            ("rules", Node::List(self.rules.clone())),
            ("grants", Node::List(self.grants.iter().map(Grant::stored).collect())),
            ("baselines", Node::List(baselines.iter().map(baseline).collect())),
            ("audit", self.trail.stored(left)),
        ]);
        Ok(node.to_json())
    }

    /// How many bytes rules and grants take.
    fn put_bytes(&self) -> usize {
        let grants = self.grants.iter().map(Grant::stored);
        self.rules.iter().map(bytes_of).chain(grants.map(|grant| bytes_of(&grant))).fold(0, usize::saturating_add)
    }

    /// Which version this is: its generation, and the head of the audit trail, which no other history has. Empty where
    /// nothing was done.
    pub fn tag(&self) -> String {
        if self.generation == 0 {
            String::new()
        } else {
            [&self.generation.to_string(), "-", self.trail.hash()].concat()
        }
    }

    /// Whether a fleet goes on with this state and not with `other`: more was done; or as much, and it is what the store
    /// has.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.generation > other.generation || (self.generation == other.generation && self.tag() != other.tag())
    }

    /// Takes over where a proxy's counting starts anew, but for rules that were reset since.
    pub fn keep_baselines(&mut self, of: &Self) {
        for baseline in &of.baselines {
            if !self.baselines.iter().any(|known| known.rule == baseline.rule) {
                self.baselines.push(baseline.clone());
            }
        }
    }

    /// Notes what was done, which makes a new generation.
    pub fn done(&mut self, at: Timestamp, actor: &str, action: &str, detail: Node) {
        self.generation = self.generation.saturating_add(1);
        self.trail.append(at, actor, action, detail);
    }

    /// Whether the rule was put at run time.
    pub fn has_rule(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.word("name") == Some(name))
    }

    /// Puts a rule in the place of the one of its name, or behind the others.
    ///
    /// # Errors
    /// There are as many as there may be, or too large ones: one that is not larger than what it replaces is always taken.
    pub fn put_rule(&mut self, rule: Node) -> Result<(), Refused> {
        let name = rule.word("name").map(str::to_owned);
        let is_full = self.rules.len() >= MOST_RULES;
        let put = self.put_bytes().saturating_add(bytes_of(&rule));
        let known = self.rules.iter_mut().find(|known| known.word("name") == name.as_deref());
        let replaced = known.as_deref().map_or(0, bytes_of);
        if bytes_of(&rule) > replaced && put.saturating_sub(replaced) > MOST_PUT_BYTES {
            return Err(Refused::Full);
        }
        match known {
            Some(known) => *known = rule,
            None if is_full => return Err(Refused::Full),
            None => self.rules.push(rule),
        }
        Ok(())
    }

    /// Takes a rule away that was put at run time.
    ///
    /// # Errors
    /// There is none.
    pub fn remove_rule(&mut self, name: &str) -> Result<(), Refused> {
        if !self.has_rule(name) {
            return Err(Refused::Absent);
        }
        self.rules.retain(|rule| rule.word("name") != Some(name));
        Ok(())
    }

    /// Adds a grant.
    ///
    /// # Errors
    /// There are as many as there may be, or too large ones. A kill switch has room that no other grant and no rule takes.
    pub fn give(&mut self, grant: Grant) -> Result<(), Refused> {
        let (grants, bytes) = if grant.is_kill_switch() { (SPARE_GRANTS, SPARE_BYTES) } else { (0, 0) };
        let put = self.put_bytes().saturating_add(bytes_of(&grant.stored()));
        if self.grants.len() >= MOST_GRANTS.saturating_add(grants) || put > MOST_PUT_BYTES.saturating_add(bytes) {
            return Err(Refused::Full);
        }
        self.grants.push(grant);
        Ok(())
    }

    /// Takes a grant away that is still in force.
    ///
    /// # Errors
    /// There is none.
    pub fn revoke(&mut self, id: &str, now: Timestamp) -> Result<Grant, Refused> {
        let wanted = |grant: &Grant| grant.id == id && grant.is_in_force(now);
        let at = self.grants.iter().position(wanted).ok_or(Refused::Absent)?;
        Ok(self.grants.remove(at))
    }

    /// Takes out the grants that have ended and notes each.
    pub fn expire(&mut self, now: Timestamp) {
        let (left, ended): (Vec<Grant>, Vec<Grant>) =
            core::mem::take(&mut self.grants).into_iter().partition(|grant| grant.is_in_force(now));
        self.grants = left;
        for grant in ended {
            self.done(now, "tidegate", "override_expired", object(&mut [("override_id", text(&grant.id))]));
        }
    }

    /// When the next grant ends.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.grants.iter().map(|grant| grant.expires_at).min()
    }

    /// Counts a rule from here on.
    pub fn reset(&mut self, baseline: Baseline) {
        self.baselines.retain(|known| known.rule != baseline.rule);
        self.baselines.push(baseline);
        if self.baselines.len() > 1_000 {
            self.baselines.remove(0);
        }
    }
}

/// How many bytes a value takes in a list.
fn bytes_of(node: &Node) -> usize {
    node.to_json().len().saturating_add(1)
}

#[cfg(test)]
mod tests;
