//! What an alert measures: the growth of totals over the last five to ten seconds. Integers only; a threshold counts in
//! millionths, and what is compared is products, so that nothing is rounded.
//!
//! Where nothing happened there is nothing above a threshold: no request is hit rate 0, no rejection is share 0, and a
//! store that nobody asked does not fail. Totals that fall (a counter was reset), and a clock that steps back, start the
//! measuring anew.

use crate::policy::Condition;
use crate::time::{Micros, Timestamp};
use crate::topk::{Place, TopK};

/// How far marks lie apart. Two are kept, so that a measurement reaches back five to ten seconds.
const MARK_EVERY: Micros = Micros::from_secs(5);
/// The shortest time that is measured over.
const SHORTEST: Micros = Micros::from_millis(500);
/// What a threshold counts in.
const MILLION: u64 = 1_000_000;

/// Totals since whenever, of an alert's rule or of all rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that the rule counted; of all rules, requests that met at least one.
    pub requests: u64,
    /// Of these, the ones over the limit, whatever came of them.
    pub limited: u64,
    /// Of these, the ones refused.
    pub rejected: u64,
    /// Requests that were decided without the store.
    pub store_failures: u64,
}

/// What an alert remembers of the last ten seconds.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    marks: Option<(Mark, Mark)>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// A share or a rate in millionths, rounded down; of a store, how many requests did without.
    pub value: u64,
    /// Whether it exceeds the threshold.
    pub is_above: bool,
    /// Who was refused most: the kind of client, and the key.
    pub top: Option<(&'static str, String)>,
}

/// The sketches of refused clients.
#[derive(Clone, Copy, Debug)]
pub struct Offenders<'s> {
    /// By user.
    pub users: &'s TopK,
    /// By address; every rejection has one.
    pub addresses: &'s TopK,
    /// Only what this group was refused; `None` for all.
    pub group: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Mark {
    at: Timestamp,
    totals: Totals,
    /// Users, addresses.
    seen: [Seen; 2],
    refused: u64,
}

/// What a sketch held at a moment.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// Hash, count, error.
    places: Vec<(u64, u64, u64)>,
    /// The most that a key which is not kept may have occurred.
    floor: u64,
}

impl Totals {
    fn fell_below(&self, before: &Self) -> bool {
        self.requests < before.requests
            || self.limited < before.limited
            || self.rejected < before.rejected
            || self.store_failures < before.store_failures
    }
}

impl Meter {
    /// Whether the sketches can tell anything: not where nothing was refused for as long as is measured.
    pub fn needs_offenders(&self, totals: &Totals) -> bool {
        let is_quiet = |(older, newer): &(Mark, Mark)| older.at != newer.at && older.totals.rejected == totals.rejected;
        !self.marks.as_ref().is_some_and(is_quiet)
    }

    /// Measures; `None` where it has just begun to. `offenders` are read for top violators alone, `None` where
    /// [`Self::needs_offenders`] says so.
    pub fn measure(
        &mut self,
        when: Condition,
        at: Timestamp,
        totals: Totals,
        offenders: Option<Offenders<'_>>,
    ) -> Option<Measure> {
        let mark = |before: &Mark| Mark {
            at,
            totals,
            seen: offenders.map_or_else(|| before.seen.clone(), |now| [Seen::of(now.users), Seen::of(now.addresses)]),
            refused: offenders.map_or(before.refused, |now| now.addresses.total(now.group)),
        };
        let refused_fell = |before: &Mark| offenders.is_some_and(|now| now.addresses.total(now.group) < before.refused);
        let Some((older, newer)) = self
            .marks
            .as_mut()
            .filter(|(_, newer)| newer.at <= at && !totals.fell_below(&newer.totals) && !refused_fell(newer))
        else {
            let first = mark(&Mark::default());
            let is_whole = offenders.is_some() || !matches!(when, Condition::TopViolatorShareAbove(_));
            self.marks = is_whole.then(|| (first.clone(), first));
            return None;
        };
        let span = at.since(older.at);
        if span < SHORTEST {
            return None;
        }
        let measure = measured(when, span, older, &totals, offenders);
        if at.since(newer.at) >= MARK_EVERY {
            let next = mark(newer);
            *older = core::mem::replace(newer, next);
        }
        Some(measure)
    }
}

fn measured(
    when: Condition,
    span: Micros,
    before: &Mark,
    totals: &Totals,
    offenders: Option<Offenders<'_>>,
) -> Measure {
    let grown = |of: fn(&Totals) -> u64| of(totals).saturating_sub(of(&before.totals));
    let mut top = None;
    let (part, whole) = match when {
        Condition::HitRateAbove(_) => (grown(|totals| totals.limited), grown(|totals| totals.requests)),
        Condition::RejectionsPerSecondAbove(_) => (grown(|totals| totals.rejected).saturating_mul(MILLION), span.0),
        // Not in millionths: a count.
        Condition::StoreUnhealthy => (grown(|totals| totals.store_failures), MILLION),
        Condition::TopViolatorShareAbove(_) => offenders.map_or((0, 0), |now| {
            let whole = now.addresses.total(now.group).saturating_sub(before.refused);
            let found = now.most_refused(before);
            let part = found.as_ref().map_or(0, |(_, _, more)| *more).min(whole);
            top = found.map(|(kind, key, _)| (kind, key));
            (part, whole)
        }),
    };
    let scaled = u128::from(part).saturating_mul(MILLION.into());
    let value = u64::try_from(scaled.checked_div(whole.into()).unwrap_or(0)).unwrap_or(u64::MAX);
    let limit = u128::from(when.threshold().unwrap_or(0)).saturating_mul(whole.into());
    Measure { value, is_above: whole > 0 && scaled > limit, top }
}

impl Offenders<'_> {
    /// The client refused most since a mark, and at least how often: its kind, its key, the count. A user or an address,
    /// whichever has more.
    fn most_refused(&self, before: &Mark) -> Option<(&'static str, String, u64)> {
        let mut most: Option<(&'static str, &str, u64)> = None;
        let [users, addresses] = &before.seen;
        for (kind, sketch, seen) in [("user", self.users, users), ("ip", self.addresses, addresses)] {
            // A client that several rules refuse has a place under each.
            let mut clients: Vec<(&str, u64)> = Vec::new();
            for place in sketch.places().iter().filter(|place| self.group.is_none_or(|group| group == place.group)) {
                let more = seen.growth_of(place);
                if more == 0 {
                    continue;
                }
                match clients.iter_mut().find(|(key, _)| *key == place.key) {
                    Some((_, sum)) => *sum = sum.saturating_add(more),
                    None => clients.push((&place.key, more)),
                }
            }
            for (key, more) in clients {
                if most.is_none_or(|(_, _, than)| than < more) {
                    most = Some((kind, key, more));
                }
            }
        }
        most.map(|(kind, key, more)| (kind, key.to_owned(), more))
    }
}

impl Seen {
    fn of(sketch: &TopK) -> Self {
        let places = sketch.places().iter().map(|place| (place.hash(), place.count, place.error)).collect();
        Self { places, floor: sketch.floor() }
    }

    /// How much more often a key has occurred since, at least. A key whose error is the same was kept all the time, so
    /// that its counts tell exactly; else the most that it may have been before is taken from the least that it is now.
    fn growth_of(&self, place: &Place) -> u64 {
        let before = self.places.iter().find(|(hash, ..)| *hash == place.hash());
        match before {
            Some((_, count, error)) if *error == place.error => place.count.saturating_sub(*count),
            other => {
                let before = other.map_or(self.floor, |(_, count, _)| *count);
                place.count.saturating_sub(place.error).saturating_sub(before)
            }
        }
    }
}

#[cfg(test)]
mod tests;
