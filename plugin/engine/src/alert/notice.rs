//! What a webhook is sent, and how often: at most five tries, 1, 2, 4 and 8 seconds after the one before failed. Sending is
//! the filter's.

use core::ops::Add as _;

use super::meter::Measure;
use super::{Event, Moment, State};
use crate::admin::{hex, line, number, object, rfc3339, text};
use crate::policy::{Alert, Condition, Node};
use crate::time::{Micros, Timestamp};
use crate::topk;

/// How often a notice is tried.
pub const TRIES: u64 = 5;
/// How long a receiver has, in milliseconds.
pub const TIMEOUT_MS: u32 = 5_000;
/// How long whoever sends a notice may take to say what came of it; then it is sent again.
const UNKNOWN_AFTER: Micros = Micros::from_secs(10);
/// How many notices of an alert may wait; one more pushes the oldest out.
const MOST: usize = 4;

/// One thing to tell a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What is sent.
    pub(super) body: String,
    /// How often it was tried.
    pub(super) tries: u64,
    /// When it is to be tried next, on the steady clock.
    pub(super) due: Timestamp,
}

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its receiver took it.
    Taken,
    /// It will be tried again.
    Waits,
    /// It was tried as often as it may be.
    GivenUp,
}

impl State {
    /// What is told of an event: one line of JSON in ASCII.
    pub fn told(
        &self,
        alert: &Alert,
        rule: Option<&str>,
        namespace: &str,
        told: (Event, &Measure),
        now: Moment,
    ) -> String {
        let (event, measure) = told;
        let status = if event == Event::Firing { "firing" } else { "resolved" };
        // The firing and its end have the same id, so that a receiver can match them and drop what it was sent twice.
        let at = self.told_at.unwrap_or_default().micros();
        let id = topk::group_of(&alert.name) ^ topk::group_of(namespace).rotate_left(32) ^ at.rotate_left(16);
        let mut members = alert.shown("alert", rule, Some(measure.value));
        for (name, value) in [
            ("status", status),
            ("id", hex(&id.to_be_bytes()).as_str()),
            ("namespace", namespace),
            ("at", rfc3339::written(now.wall).as_str()),
        ] {
            members.push((name.to_owned(), text(value)));
        }
        if let Some((kind, key)) = &measure.top {
            members.push(("top_violator".to_owned(), object(&mut [("kind", text(kind)), ("key", text(key))])));
        }
        line(&Node::Object(members))
    }

    /// Has something sent to the alert's webhook.
    pub fn send(&mut self, body: String, now: Moment) {
        self.outbox.push(Notice { body, tries: 0, due: now.steady });
        if self.outbox.len() > MOST {
            self.outbox.remove(0);
        }
    }

    /// The notice that is due, counted as tried. They leave in order, one at a time.
    pub fn take_due(&mut self, now: Moment) -> Option<&str> {
        let first = self.outbox.first_mut()?;
        // A clock that stepped back must not keep it for longer than it may be kept.
        first.due = first.due.min(now.steady.add(UNKNOWN_AFTER));
        if first.due > now.steady {
            return None;
        }
        first.tries = first.tries.saturating_add(1);
        first.due = now.steady.add(UNKNOWN_AFTER);
        Some(&first.body)
    }

    /// Notes what came of the notice last taken; `None` where it is gone.
    pub fn answered(&mut self, body: &str, is_taken: bool, now: Moment) -> Option<Fate> {
        let first = self.outbox.first_mut().filter(|first| first.body == body)?;
        if !is_taken && first.tries < TRIES {
            // 1, 2, 4, 8.
            let seconds = (1..first.tries).fold(1, |seconds: u64, _| seconds.saturating_mul(2));
            first.due = now.steady.add(Micros::from_secs(seconds));
            return Some(Fate::Waits);
        }
        self.outbox.remove(0);
        Some(if is_taken { Fate::Taken } else { Fate::GivenUp })
    }

    /// Gives up the notice that was tried as often as it may be, where nobody said what came of its last try.
    pub fn give_up_lost(&mut self, now: Moment) -> bool {
        let is_lost = self.outbox.first().is_some_and(|first| first.tries >= TRIES && first.due <= now.steady);
        if is_lost {
            self.outbox.remove(0);
        }
        is_lost
    }

    /// Forgets what its webhook has not taken: it has none any more.
    pub fn send_nothing(&mut self) {
        self.outbox.clear();
    }
}

impl Alert {
    /// What both a webhook and the admin API are told of an alert.
    pub(super) fn shown(&self, as_what: &str, rule: Option<&str>, value: Option<u64>) -> Vec<(String, Node)> {
        let shown = |value: u64| match self.when {
            Condition::StoreUnhealthy => number(value),
            _ => Node::of_millionths(value),
        };
        vec![
            (as_what.to_owned(), text(&self.name)),
            ("when".to_owned(), text(self.when.word())),
            ("rule".to_owned(), rule.map_or(Node::Null, text)),
            ("value".to_owned(), value.map_or(Node::Null, shown)),
            ("threshold".to_owned(), self.when.threshold().map_or(Node::Null, Node::of_millionths)),
        ]
    }
}
