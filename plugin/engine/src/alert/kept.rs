//! What all workers share of alerts: whose turn it is to evaluate them, and how far each is. One value, so that whoever
//! writes it by compare-and-swap has evaluated, and nobody else has. Where it is kept is the filter's.

use core::ops::Add as _;

use super::notice::Notice;
use super::{Moment, Phase, State};
use crate::admin::{rfc3339, text};
use crate::policy::{Node, Policy};
use crate::time::{Micros, Timestamp};

/// How long the turn lasts after an evaluation. There is one a second: a worker that misses five is dead or stuck.
pub const LEASE: Micros = Micros::from_secs(5);

/// Somebody who evaluates alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watcher {
    /// Random, so that no two are the same.
    pub id: String,
    /// Tells its policy from others.
    pub policy: String,
    /// When it took the policy, on the steady clock.
    pub configured_at: Timestamp,
}

/// The shared value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whose turn it is.
    pub owner: Watcher,
    /// Until when, on the steady clock.
    pub until: Timestamp,
    /// The alerts, in the order of the owner's policy.
    pub states: Vec<State>,
}

impl Kept {
    /// Whether it is this watcher's turn: it was, or the turn is over. A watcher of an older policy has none beside one of
    /// a newer, which need not wait: a host lets the old one live on until its connections have ended.
    pub fn is_turn_of(&self, watcher: &Watcher, now: Timestamp) -> bool {
        // What lies ahead of any clock that wrote it was written before the clock stepped back.
        let is_sound = self.until <= now.add(LEASE) && self.owner.configured_at <= now;
        if !is_sound || self.owner.id == watcher.id {
            return true;
        }
        if self.owner.policy != watcher.policy {
            return self.owner.configured_at <= watcher.configured_at;
        }
        self.until <= now
    }

    /// Gives the turn to a watcher, with a state for each alert of its policy. Returns the names of the alerts that its
    /// policy does not have.
    pub fn take_turn(&mut self, watcher: &Watcher, policy: &Policy, now: Timestamp) -> Vec<String> {
        self.owner = watcher.clone();
        self.until = now.add(LEASE);
        let mut before = core::mem::take(&mut self.states);
        for alert in &policy.alerts {
            let known = before.iter().position(|state| state.name == alert.name);
            self.states.push(known.map_or_else(|| State::new(&alert.name), |at| before.swap_remove(at)));
        }
        before.into_iter().map(|state| state.name).collect()
    }

    /// The alerts of a policy as the admin API shows them.
    pub fn shown(&self, policy: &Policy) -> Node {
        let alerts = policy.alerts.iter().map(|alert| {
            let state = self.states.iter().find(|state| state.name == alert.name);
            let rule = alert.rule.and_then(|rule| policy.rules.get(rule)).map(|rule| rule.name.as_str());
            let since = state.map(|state| state.since.wall).filter(|since| *since > Timestamp::default());
            let mut members = alert.shown("name", rule, state.and_then(|state| state.value));
            members.extend([
                ("state".to_owned(), text(state.map_or(Phase::Inactive, |state| state.phase).word())),
                ("since".to_owned(), since.map_or(Node::Null, |since| text(&rfc3339::written(since)))),
            ]);
            Node::Object(members)
        });
        Node::List(alerts.collect())
    }

    /// Reads what [`Self::bytes`] writes; anything else is a value in which nothing was done.
    pub fn read(bytes: &[u8]) -> Self {
        core::str::from_utf8(bytes).ok().and_then(Self::restored).unwrap_or_default()
    }

    fn restored(text: &str) -> Option<Self> {
        let mut lines = text.split_terminator('\n');
        let mut words = Words(lines.next()?);
        let owner =
            Watcher { id: words.next().to_owned(), policy: words.next().to_owned(), configured_at: words.moment()? };
        let mut kept = Self { owner, until: words.moment()?, states: Vec::new() };
        for line in lines {
            let mut words = Words(line);
            let name = words.next();
            if name.is_empty() {
                let notice = Notice { tries: words.number()?, due: words.moment()?, body: words.0.to_owned() };
                kept.states.last_mut()?.outbox.push(notice);
                continue;
            }
            kept.states.push(State {
                name: name.to_owned(),
                phase: match words.next() {
                    "firing" => Phase::Firing,
                    "pending" => Phase::Pending,
                    _ => Phase::Inactive,
                },
                since: Moment { steady: words.moment()?, wall: words.moment()? },
                value: words.number(),
                told_at: words.moment(),
                is_told: words.next() == "told",
                outbox: Vec::new(),
            });
        }
        Some(kept)
    }

    /// Writes it down: a line for whose turn it is, one for each alert, and one that starts with a space for each notice.
    /// Words are parted by spaces; what is not there is no word.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Line(String::new());
        out.word(&self.owner.id).word(&self.owner.policy).number(Some(self.owner.configured_at.micros()));
        out.number(Some(self.until.micros())).end();
        for state in &self.states {
            out.word(&state.name).word(state.phase.word());
            out.number(Some(state.since.steady.micros())).number(Some(state.since.wall.micros()));
            out.number(state.value).number(state.told_at.map(Timestamp::micros));
            out.word(if state.is_told { "told" } else { "" }).end();
            for notice in &state.outbox {
                // Its body is a line of JSON in ASCII: no line break is in it.
                out.word("").number(Some(notice.tries)).number(Some(notice.due.micros())).word(&notice.body).end();
            }
        }
        out.0.into_bytes()
    }
}

/// The words of a line that are still to be read.
struct Words<'l>(&'l str);

impl<'l> Words<'l> {
    fn next(&mut self) -> &'l str {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        word
    }

    fn number(&mut self) -> Option<u64> {
        self.next().parse().ok()
    }

    fn moment(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp::from_micros)
    }
}

/// Lines while they are written.
struct Line(String);

impl Line {
    fn word(&mut self, word: &str) -> &mut Self {
        self.0.push_str(word);
        self.0.push(' ');
        self
    }

    fn number(&mut self, number: Option<u64>) -> &mut Self {
        let number = number.map(|number| number.to_string());
        self.word(&number.unwrap_or_default())
    }

    fn end(&mut self) {
        self.0.pop();
        self.0.push('\n');
    }
}
