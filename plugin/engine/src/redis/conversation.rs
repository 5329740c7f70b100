//! Which calls a request takes: one, or in a Cluster one for each of its identities; and what their answers come to.
//! Sending, waiting and giving up are the caller's.

use super::call::{Call, Charge, Purpose};
use super::failure::Failure;
use super::lease::Lease;
use super::reply::{CellOutcome, parse};
use crate::acquire::{Acquire, Outcome, Reply};
use crate::time::Micros;

/// A request's calls, one after the other.
#[derive(Debug)]
pub struct Conversation {
    /// The cells of each call by index, in the order of the calls.
    groups: Vec<Vec<usize>>,
    /// How many calls are answered.
    answered: usize,
    refused: bool,
    cells: Vec<CellOutcome>,
}

/// How an acquire ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcomes {
    /// Granted or refused.
    pub outcome: Outcome,
    /// What became of each cell, in the acquire's order.
    pub cells: Vec<CellOutcome>,
}

impl Conversation {
    /// Starts one. `is_cluster` once the store has answered [`Failure::CrossSlot`].
    pub fn new(acquire: &Acquire, is_cluster: bool) -> Self {
        let all = 0..acquire.cells.len();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        if is_cluster {
            for subject in 0..acquire.subjects.len() {
                let of_subject = |index: &usize| acquire.cells.get(*index).is_some_and(|cell| cell.subject == subject);
                let group: Vec<usize> = all.clone().filter(of_subject).collect();
                if group.is_empty() {
                    continue;
                }
                // A request has a handful of identities; a sort would weigh more in the filter than all of this.
                let own = scarcity(acquire, &group);
                let place = groups.iter().position(|other| scarcity(acquire, other) < own).unwrap_or(groups.len());
                groups.insert(place, group);
            }
        } else {
            groups.push(all.collect());
        }
        Self { groups, answered: 0, refused: false, cells: vec![CellOutcome::default(); acquire.cells.len()] }
    }

    /// The call to make next; `None` once all are answered. `keys` as [`super::keys`] gives them; `leases` by cell, or
    /// empty in `exact` mode.
    pub fn next_call(&self, acquire: &Acquire, keys: &[String], leases: &[Lease]) -> Option<Call> {
        let group = self.groups.get(self.answered).filter(|group| !group.is_empty())?;
        Some(Call::ask(self.purpose(), acquire, group, keys, leases))
    }

    /// Takes the answer to that call.
    ///
    /// # Errors
    /// [`Failure::Garbage`]: the numbers do not answer what was asked. What this call charged, if anything, ages out.
    pub fn take(&mut self, numbers: &[i64], acquire: &Acquire, leases: &[Lease]) -> Result<(), Failure> {
        let purpose = self.purpose();
        let group = self.groups.get(self.answered).map(Vec::as_slice).unwrap_or_default();
        let asked = |index: &usize| Some((acquire.cells.get(*index)?, leases.get(*index).copied().unwrap_or_default()));
        let asked: Vec<_> = group.iter().filter_map(asked).collect();
        let (granted, outcomes) = parse(numbers, &asked, purpose)?;
        for (index, outcome) in group.iter().zip(outcomes) {
            if let Some(cell) = self.cells.get_mut(*index) {
                *cell = outcome;
            }
        }
        self.refused |= !granted;
        self.answered = self.answered.saturating_add(1);
        Ok(())
    }

    /// What answered calls have charged and must be given back: all of it where the request was refused, or where the
    /// next call failed; nothing where it is granted. For [`Call::refunds`].
    pub fn returned<'a>(&self, acquire: &'a Acquire, keys: &'a [String]) -> Vec<Charge<'a>> {
        let is_granted = !self.refused && self.answered >= self.groups.len();
        if is_granted { Vec::new() } else { charges(&self.cells, acquire, keys, true) }
    }

    /// The end: to be called when [`Conversation::next_call`] gives none.
    pub fn finish(self) -> Outcomes {
        let mut outcomes = Outcomes { outcome: Outcome::Granted, cells: self.cells };
        if self.refused {
            outcomes.refuse();
        }
        outcomes
    }

    fn purpose(&self) -> Purpose {
        if self.refused { Purpose::Probe } else { Purpose::Acquire }
    }
}

impl Outcomes {
    /// Makes a refusal of it: nothing is charged any more. What was goes back first.
    pub fn refuse(&mut self) {
        self.outcome = Outcome::Refused;
        for cell in &mut self.cells {
            cell.reply.charged = false;
            (cell.leased, cell.life) = (0, Micros::ZERO);
        }
    }

    /// The answer for [`crate::Pending::resume`].
    pub fn reply(&self) -> Reply {
        Reply { cells: self.cells.iter().map(|cell| cell.reply).collect(), outcome: self.outcome }
    }

    /// What the request itself is charged, without leases: to be given back if it never goes on.
    pub fn charges<'a>(&self, acquire: &'a Acquire, keys: &'a [String]) -> Vec<Charge<'a>> {
        charges(&self.cells, acquire, keys, false)
    }
}

fn charges<'a>(cells: &[CellOutcome], acquire: &'a Acquire, keys: &'a [String], with_leases: bool) -> Vec<Charge<'a>> {
    let all = acquire.cells.iter().zip(keys).zip(cells).map(|((request, key), cell)| {
        let own = if cell.reply.charged { request.cost } else { 0 };
        let units = own.saturating_add(if with_leases { cell.leased } else { 0 });
        Charge { key, request, units, at: cell.at }
    });
    all.filter(|charge| charge.units > 0).collect()
}

/// How long the longest must-charge of a group takes to drain, in units that only compare: what runs out first is asked
/// first. Cells that need not conform are charged only where all others do, so they come last.
fn scarcity(acquire: &Acquire, group: &[usize]) -> Option<u128> {
    let drains = |index: &usize| {
        let cell = acquire.cells.get(*index).filter(|cell| cell.must)?;
        let units = u128::from(cell.cost).saturating_mul(u128::from(cell.quota.window.0)).saturating_mul(1 << 24);
        units.checked_div(u128::from(cell.quota.rate.get()))
    };
    group.iter().filter_map(drains).max()
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::acquire::CellRequest;
    use crate::algorithm::{FIXED_WINDOW, Quota};
    use crate::identity::{Kind, Subject};
    use crate::time::Timestamp;

    const NOW: i64 = 1_795_000_000_123_456;

    /// Cell 0: the user's, 1000 a minute. Cell 1: the address's, 10 a minute. Cell 2: the user's. Cell 3: soft, global.
    fn acquire() -> Acquire {
        let cell = |subject, rate, must| {
            let rate = NonZeroU64::new(rate).unwrap();
            let quota = Quota { rate, window: Micros::from_secs(60), burst: rate, horizon: Micros::ZERO };
            CellRequest {
                subject,
                rule_id: 0,
                group: 0,
                algorithm: &FIXED_WINDOW,
                quota,
                cost: 1,
                must,
                may_wait: false,
            }
        };
        let subject = |kind| Subject { kind, value: Vec::new() };
        Acquire {
            now: Timestamp::default(),
            subjects: [Kind::VerifiedUser, Kind::Address, Kind::Global].map(subject).to_vec(),
            cells: vec![cell(0, 1_000, true), cell(1, 10, true), cell(0, 2_000, true), cell(2, 1, false)],
        }
    }

    fn keys() -> Vec<String> {
        ["{v}a", "{i}b", "{v}c", "{g}d"].map(str::to_owned).to_vec()
    }

    const CHARGED: [i64; 5] = [0, 1, 0, 7, 0];
    const FULL: [i64; 5] = [5, 0, 0, 7, 0];
    const FREE: [i64; 5] = [0, 0, 1, 7, 0];

    fn answer(granted: i64, cells: &[[i64; 5]]) -> Vec<i64> {
        [&[granted, NOW][..], &cells.concat()].concat()
    }

    #[test]
    fn one_call_does_where_there_is_no_cluster() {
        let (acquire, keys) = (acquire(), keys());
        let mut talk = Conversation::new(&acquire, false);
        assert_eq!(talk.next_call(&acquire, &keys, &[]).unwrap().keys, keys);
        talk.take(&answer(1, &[CHARGED; 4]), &acquire, &[]).unwrap();
        assert_eq!(talk.next_call(&acquire, &keys, &[]), None);
        assert!(talk.returned(&acquire, &keys).is_empty());
        let outcomes = talk.finish();
        assert_eq!(outcomes.outcome, Outcome::Granted);
        assert_eq!(outcomes.charges(&acquire, &keys).len(), 4);
    }

    #[test]
    fn a_cluster_is_asked_for_the_scarcest_first() {
        let (acquire, keys) = (acquire(), keys());
        let mut talk = Conversation::new(&acquire, true);
        let mut asked = Vec::new();
        while let Some(call) = talk.next_call(&acquire, &keys, &[]) {
            assert_eq!(call.arguments[0], "acquire");
            talk.take(&answer(1, &vec![CHARGED; call.keys.len()]), &acquire, &[]).unwrap();
            asked.push(call.keys);
        }
        assert_eq!(asked, [vec!["{i}b"], vec!["{v}a", "{v}c"], vec!["{g}d"]]);
        assert_eq!(talk.finish().outcome, Outcome::Granted);
    }

    #[test]
    fn a_later_refusal_gives_back_and_probes_the_rest() {
        let (acquire, keys) = (acquire(), keys());
        let mut talk = Conversation::new(&acquire, true);
        talk.take(&answer(1, &[CHARGED]), &acquire, &[]).unwrap();
        talk.take(&answer(0, &[FULL, FREE]), &acquire, &[]).unwrap();
        let probe = talk.next_call(&acquire, &keys, &[]).unwrap();
        assert_eq!((probe.arguments[0].as_str(), probe.keys.as_slice()), ("probe", &["{g}d".to_owned()][..]));
        let charged = answer(1, &[CHARGED]);
        assert_eq!(talk.take(&charged, &acquire, &[]), Err(Failure::Garbage), "a probe charges nothing");
        talk.take(&answer(1, &[FREE]), &acquire, &[]).unwrap();
        let returned = talk.returned(&acquire, &keys);
        let calls = Call::refunds(&returned, true);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].keys, ["{i}b"]);
        assert_eq!(calls[0].arguments, ["refund".to_owned(), format!("f 10 60000000 10 0 1 m {NOW} 0")]);
        let outcomes = talk.finish();
        assert_eq!(outcomes.outcome, Outcome::Refused);
        assert!(outcomes.cells.iter().all(|cell| !cell.reply.charged));
        assert_eq!(outcomes.reply().cells[0].wait, Micros(5));
    }

    #[test]
    fn a_failure_half_way_gives_back_what_is_charged() {
        let (acquire, keys) = (acquire(), keys());
        let mut talk = Conversation::new(&acquire, true);
        assert!(talk.returned(&acquire, &keys).is_empty());
        talk.take(&answer(1, &[CHARGED]), &acquire, &[]).unwrap();
        assert_eq!(talk.returned(&acquire, &keys).len(), 1);
        let all: Vec<Charge<'_>> =
            keys.iter().zip(&acquire.cells).map(|(key, request)| Charge { key, request, units: 1, at: 5 }).collect();
        let of = |calls: Vec<Call>| calls.into_iter().map(|call| call.keys.len()).collect::<Vec<_>>();
        assert_eq!(of(Call::refunds(&all, true)), [2, 1, 1]);
        assert_eq!(of(Call::refunds(&all, false)), [4]);
    }
}
