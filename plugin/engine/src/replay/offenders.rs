//! The keys that occur most, in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi 2005). A counter is kept for
//! as many keys as there is room; a new key takes over the smallest counter, and remembers it as its possible error. A
//! key that occurs more often than all occurrences divided by the room is among them.

use std::collections::BTreeMap;

use crate::identity::{Kind, Subject};
use crate::time::Timestamp;

/// How many keys are followed for each one that is shown: the shown counts are then nearly always exact.
const FOLLOWED: usize = 16;
/// A label keeps this many characters.
const LONGEST_LABEL: usize = 128;

/// Who was limited how often.
#[derive(Clone, Debug)]
pub struct Offenders {
    shown: usize,
    followed: BTreeMap<[u8; 16], Offender>,
}

/// One of those who were limited most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offender {
    /// Which kind of identity.
    pub kind: Kind,
    /// The identity itself, cut to 128 characters; `None` where it may be a secret. A client may have chosen it: it can
    /// hold any character.
    pub label: Option<String>,
    /// What a store's key shows of it.
    pub digest: [u8; 16],
    /// How often, at most.
    pub count: u64,
    /// How many of `count` may be others'.
    pub error: u64,
    /// When it was first seen since it is followed.
    pub first: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
}

impl Offenders {
    /// Nobody yet; at most `shown` will be named.
    pub fn new(shown: usize) -> Self {
        Self { shown, followed: BTreeMap::new() }
    }

    /// Counts one occurrence.
    pub fn add(&mut self, subject: &Subject, at: Timestamp) {
        let digest = subject.digest();
        if let Some(known) = self.followed.get_mut(&digest) {
            known.count = known.count.saturating_add(1);
            known.last = at;
            return;
        }
        let mut error = 0;
        if self.followed.len() >= self.shown.saturating_mul(FOLLOWED).max(1) {
            let smallest = self.followed.iter().min_by_key(|(_, offender)| offender.count);
            let Some((smallest, count)) = smallest.map(|(digest, offender)| (*digest, offender.count)) else { return };
            self.followed.remove(&smallest);
            error = count;
        }
        let offender = Offender {
            kind: subject.kind,
            label: label(subject),
            digest,
            count: error.saturating_add(1),
            error,
            first: at,
            last: at,
        };
        self.followed.insert(digest, offender);
    }

    /// The most frequent ones, those surely seen most often first.
    pub fn most_frequent(&self) -> Vec<Offender> {
        let mut all: Vec<Offender> = self.followed.values().cloned().collect();
        all.sort_by_key(|offender| core::cmp::Reverse((offender.count.saturating_sub(offender.error), offender.count)));
        all.truncate(self.shown);
        all
    }
}

/// What may be shown of a subject: unverified identities may be secrets.
fn label(subject: &Subject) -> Option<String> {
    let text = || String::from_utf8_lossy(&subject.value).chars().take(LONGEST_LABEL).collect();
    (subject.kind != Kind::UnverifiedUser).then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_are_found_in_bounded_memory() {
        let mut offenders = Offenders::new(2);
        let subject = |name: String| Subject { kind: Kind::Address, value: name.into_bytes() };
        for round in 0..1000_u64 {
            offenders.add(&subject("often".to_owned()), Timestamp::from_micros(round));
            if round.is_multiple_of(2) {
                offenders.add(&subject("half".to_owned()), Timestamp::from_micros(round));
            }
            offenders.add(&subject(format!("once {round}")), Timestamp::from_micros(round));
        }
        assert_eq!(offenders.followed.len(), 2 * FOLLOWED);
        let found = offenders.most_frequent();
        let names: Vec<&str> = found.iter().filter_map(|one| one.label.as_deref()).collect();
        assert_eq!(names, ["often", "half"]);
        assert_eq!((found[0].count, found[0].error, found[1].count), (1000, 0, 500));
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let mut offenders = Offenders::new(1);
        offenders.add(&Subject { kind: Kind::UnverifiedUser, value: b"key".to_vec() }, Timestamp::default());
        assert_eq!(offenders.most_frequent()[0].label, None);
    }
}
