//! The keys that occur most in a stream, in memory that does not grow: Space-Saving (Metwally, Agrawal, El Abbadi 2005).
//! Which keys, and where several sketches are kept, is not known here.
//!
//! Promise: with K places and N occurrences, every key that occurs more than N / K times is there, and of each one
//! `count - error <= true <= count`, where `error <= N / K`. Worked: 256 places and 100,000 occurrences are wrong by at
//! most 390. Merged sketches add their errors.

use std::borrow::Cow;

use crate::admin::{number, object, text};
use crate::policy::{Node, json};

/// How many keys a sketch keeps: of a Zipf stream (exponent 1) over 100,000 keys, the twentieth has a share of 1 / 242,
/// so that the first twenty are always found.
pub const PLACES: usize = 256;
/// The most groups that are counted: as many as a policy may have rules, those put at run time included.
const MOST_GROUPS: usize = 1_100;

/// A sketch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopK {
    places: Vec<Place>,
    /// How much was counted under each group, exactly.
    totals: Vec<(u64, u64)>,
}

/// One key that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it was counted under, a number of the caller's.
    pub group: u64,
    /// The key.
    pub key: String,
    /// At least how often it occurred, and at most `error` too much.
    pub count: u64,
    /// How much `count` may be too large.
    pub error: u64,
    hash: u64,
}

impl Place {
    /// 64 bits that tell group and key from most others.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl TopK {
    /// Counts one occurrence.
    pub fn count(&mut self, group: u64, key: &str) {
        self.add(group, key.into(), 1, 0);
        self.add_total(group, 1);
    }

    fn add_total(&mut self, group: u64, count: u64) {
        let is_full = self.totals.len() >= MOST_GROUPS;
        match self.totals.iter_mut().find(|(known, _)| *known == group) {
            Some((_, total)) => *total = total.saturating_add(count),
            None if is_full => {}
            None => self.totals.push((group, count)),
        }
    }

    fn add(&mut self, group: u64, key: Cow<'_, str>, count: u64, error: u64) {
        let hash = hash(group, &key);
        let is_it = |place: &&mut Place| place.hash == hash && place.group == group && place.key == key;
        if let Some(place) = self.places.iter_mut().find(is_it) {
            place.count = place.count.saturating_add(count);
            place.error = place.error.saturating_add(error);
            return;
        }
        if self.places.len() < PLACES {
            self.places.push(Place { group, key: key.into_owned(), count, error, hash });
            return;
        }
        // The new key takes the place of the least: it may have occurred as often without being kept.
        if let Some(least) = self.places.iter_mut().min_by_key(|place| place.count) {
            let before = least.count;
            let (count, error) = (before.saturating_add(count), before.saturating_add(error));
            *least = Place { group, key: key.into_owned(), count, error, hash };
        }
    }

    /// Adds another sketch's keys, the largest first.
    pub fn merge(&mut self, mut other: Self) {
        while let Some(at) = largest_of(&other.places, |_| true) {
            let place = other.places.swap_remove(at);
            self.add(place.group, place.key.into(), place.count, place.error);
        }
        for (group, total) in other.totals {
            self.add_total(group, total);
        }
    }

    /// Keeps the groups for which `keep` says yes.
    pub fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        self.places.retain(|place| keep(place.group));
        self.totals.retain(|(group, _)| keep(*group));
    }

    /// The keys that are kept, in no order.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// How much was counted under a group, or under all.
    pub fn total(&self, group: Option<u64>) -> u64 {
        let totals = self.totals.iter().filter(|(known, _)| group.is_none_or(|group| group == *known));
        totals.fold(0, |sum, (_, total)| sum.saturating_add(*total))
    }

    /// The most that a key may have occurred which is not kept.
    pub fn floor(&self) -> u64 {
        if self.places.len() < PLACES {
            return 0;
        }
        self.places.iter().map(|place| place.count).min().unwrap_or(0)
    }

    /// The largest keys of a group, the largest first.
    pub fn largest(&self, group: u64, most: usize) -> Vec<&Place> {
        let mut taken: Vec<usize> = Vec::new();
        while taken.len() < most
            && let Some(at) = largest_of(&self.places, |at| {
                !taken.contains(&at) && self.places.get(at).is_some_and(|place| place.group == group)
            })
        {
            taken.push(at);
        }
        taken.iter().filter_map(|at| self.places.get(*at)).collect()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Writes it down.
    pub fn stored(&self) -> Node {
        let place = |place: &Place| {
            // A group is 64 bits; numbers in a text here have 63.
            let [high, low] = [place.group >> 32, place.group & 0xffff_ffff];
            Node::List(vec![number(high), number(low), text(&place.key), number(place.count), number(place.error)])
        };
        let total = |(group, total): &(u64, u64)| {
            Node::List(vec![number(group >> 32), number(group & 0xffff_ffff), number(*total)])
        };
        Node::List(self.places.iter().map(place).chain(self.totals.iter().map(total)).collect())
    }

    /// Reads what [`Self::stored`] writes; what does not fit is left out.
    pub fn restored(node: &Node) -> Self {
        let mut sketch = Self::default();
        for entry in node.entries().iter().take(PLACES.saturating_add(MOST_GROUPS)) {
            let [high, low, rest @ ..] = entry.entries() else { continue };
            let (Some(high), Some(low)) = (high.whole(), low.whole()) else { continue };
            let group = (high << 32) | (low & 0xffff_ffff);
            match rest {
                [Node::Text(key), count, error] => {
                    if let (Some(count), Some(error)) = (count.whole(), error.whole()) {
                        sketch.add(group, key.as_str().into(), count, error);
                    }
                }
                [total] => sketch.add_total(group, total.whole().unwrap_or(0)),
                _ => {}
            }
        }
        sketch
    }

    /// The largest keys of a group as the admin API shows them.
    pub fn shown(&self, group: u64, most: usize) -> Node {
        let place = |place: &&Place| {
            object(&mut [("key", text(&place.key)), ("count", number(place.count)), ("error", number(place.error))])
        };
        Node::List(self.largest(group, most).iter().map(place).collect())
    }
}

/// The place with the largest count that `may` be it. There are few places; a sort would be more code in the .wasm.
fn largest_of(places: &[Place], may: impl Fn(usize) -> bool) -> Option<usize> {
    let places = places.iter().enumerate().filter(|(at, _)| may(*at));
    places.max_by_key(|(_, place)| place.count).map(|(at, _)| at)
}

/// Reads a text that holds sketches; `None` where it is none.
pub fn read(text: &[u8]) -> Option<Node> {
    json::parse(text).ok()
}

/// The group of a name.
pub fn group_of(name: &str) -> u64 {
    hash(0, name)
}

/// FNV-1a, 64 bits: only to compare few keys fast; equal hashes are looked at again.
fn hash(group: u64, key: &str) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    key.as_bytes().iter().fold(group.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step), step)
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)]
mod tests {
    use super::*;

    /// Occurrences by Zipf's law with exponent 1: key k comes 1 / k as often as key 1. A fixed generator picks.
    fn zipf(keys: usize, occurrences: usize, seed: u64) -> Vec<usize> {
        let mut sums = Vec::with_capacity(keys);
        let mut sum = 0.0_f64;
        for key in 1..=keys {
            sum += 1.0 / key as f64;
            sums.push(sum);
        }
        let mut state = seed;
        (0..occurrences)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let share = (state >> 11) as f64 / (1_u64 << 53) as f64 * sum;
                sums.partition_point(|at| *at < share)
            })
            .collect()
    }

    #[test]
    fn the_true_top_twenty_of_a_zipf_stream_of_100_000_keys_is_found() {
        for seed in 1..4 {
            let stream = zipf(100_000, 400_000, seed);
            let mut truth = vec![0_u64; 100_000];
            let mut sketches = [TopK::default(), TopK::default()];
            let mut one = TopK::default();
            for (at, key) in stream.iter().enumerate() {
                truth[*key] += 1;
                one.count(7, &format!("user-{key}"));
                sketches[at % 2].count(7, &format!("user-{key}"));
            }
            let [mut merged, other] = sketches;
            merged.merge(other);
            for (sketch, bound) in [(one, 400_000 / PLACES as u64), (merged, 2 * 400_000 / PLACES as u64)] {
                assert_eq!(sketch.places.len(), PLACES, "memory is flat");
                let mut order: Vec<usize> = (0..truth.len()).collect();
                order.sort_by(|a, b| truth[*b].cmp(&truth[*a]));
                for key in &order[..20] {
                    let name = format!("user-{key}");
                    let place = sketch.places.iter().find(|place| place.key == name).expect("one of the top twenty");
                    assert!(place.error <= bound, "{place:?}");
                    assert!(place.count >= truth[*key] && place.count - place.error <= truth[*key], "{place:?}");
                }
                let shown: Vec<&str> = sketch.largest(7, 10).iter().map(|place| place.key.as_str()).collect();
                for key in &order[..5] {
                    assert!(shown.contains(&format!("user-{key}").as_str()));
                }
                assert_eq!(TopK::restored(&sketch.stored()), sketch);
            }
        }
    }

    #[test]
    fn groups_are_kept_apart() {
        let mut sketch = TopK::default();
        (0..3).for_each(|_| sketch.count(1, "a"));
        sketch.count(u64::MAX, "a");
        assert_eq!((sketch.largest(1, 9)[0].count, sketch.largest(u64::MAX, 9)[0].count), (3, 1));
        sketch.retain(|group| group != 1);
        assert!(sketch.largest(1, 9).is_empty());
        assert_eq!(TopK::restored(&Node::Text("x".to_owned())), TopK::default());
    }
}
