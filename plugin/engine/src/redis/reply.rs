//! What the script's numbers mean: typed, each within its range, and all of them consistent with the question. A store
//! that answers anything else has not answered.

use super::call::Purpose;
use super::failure::Failure;
use super::lease::Lease;
use crate::acquire::{CellReply, CellRequest};
use crate::time::{Micros, Timestamp};

/// Numbers that the script tells of a cell.
const STRIDE: usize = 5;

/// What became of one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellOutcome {
    /// What the engine wants to know.
    pub reply: CellReply,
    /// The moment that was charged for, on the store's clock. To be kept, for giving back.
    pub at: u64,
    /// Units charged beyond the request's cost, to be spent within `life`.
    pub leased: u64,
    /// How long the leased units may be spent, counted from before the call was sent. Zero where none are leased.
    pub life: Micros,
}

/// Whether the must-cells conform, and what became of each cell of a call.
pub(super) fn parse(
    numbers: &[i64],
    asked: &[(&CellRequest, Lease)],
    purpose: Purpose,
) -> Result<(bool, Vec<CellOutcome>), Failure> {
    let (Some(([granted, now], rest)), false) = (numbers.split_first_chunk(), asked.is_empty()) else {
        return Err(Failure::Garbage);
    };
    let granted = match granted {
        0 => false,
        1 => true,
        _ => return Err(Failure::Garbage),
    };
    let (cells, []) = rest.as_chunks::<STRIDE>() else { return Err(Failure::Garbage) };
    let now = moment(*now).filter(|_| cells.len() == asked.len()).ok_or(Failure::Garbage)?;
    let may_charge = granted && purpose == Purpose::Acquire;
    let read = |(numbers, (request, lease)): (&[i64; STRIDE], &(&CellRequest, Lease))| {
        outcome(*numbers, request, *lease, now, may_charge)
    };
    let outcomes: Vec<CellOutcome> =
        cells.iter().zip(asked).map(read).collect::<Option<_>>().ok_or(Failure::Garbage)?;
    let conform =
        asked.iter().zip(&outcomes).all(|((request, _), cell)| !request.must || request.admits(cell.reply.wait));
    if granted == conform { Ok((granted, outcomes)) } else { Err(Failure::Garbage) }
}

/// `may_charge`: whether the call charges what conforms.
fn outcome(
    [wait, units, remaining, reset_after, life]: [i64; STRIDE],
    request: &CellRequest,
    lease: Lease,
    now: u64,
    may_charge: bool,
) -> Option<CellOutcome> {
    let wait = if wait == -1 { Micros::FOREVER } else { Micros(moment(wait)?) };
    let charged = may_charge && request.cost > 0 && request.admits(wait);
    let leased = u64::try_from(units).ok()?.checked_sub(if charged { request.cost } else { 0 })?;
    let most = if may_charge && wait == Micros::ZERO { lease.most.saturating_sub(request.cost) } else { 0 };
    let quota = &request.quota;
    let remaining = u64::try_from(remaining).ok().filter(|left| *left <= quota.rate.max(quota.burst).get())?;
    let life = Micros(u64::try_from(life).ok()?);
    if leased > most || life > quota.window || (leased == 0) != (life == Micros::ZERO) {
        return None;
    }
    let reply = CellReply { wait, charged, remaining, reset_after: Micros(moment(reset_after)?) };
    let at = if wait == Micros::FOREVER { now } else { now.saturating_add(wait.0) };
    Some(CellOutcome { reply, at, leased, life })
}

/// A number from 0 to below 2^53.
fn moment(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|micros| *micros <= Timestamp::MAX.micros())
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::algorithm::{FIXED_WINDOW, Quota};

    const NOW: i64 = 1_795_000_000_123_456;

    fn request() -> CellRequest {
        let rate = NonZeroU64::new(10).unwrap();
        let quota = Quota { rate, window: Micros::from_secs(60), burst: rate, horizon: Micros::ZERO };
        CellRequest {
            subject: 0,
            rule_id: 0,
            group: 0,
            algorithm: &FIXED_WINDOW,
            quota,
            cost: 2,
            must: true,
            may_wait: false,
        }
    }

    fn parsed(numbers: &[i64]) -> Result<(bool, Vec<CellOutcome>), Failure> {
        parse(numbers, &[(&request(), Lease { most: 5, less: Micros::ZERO })], Purpose::Acquire)
    }

    #[test]
    fn a_grant_carries_its_lease() {
        let (granted, cells) = parsed(&[1, NOW, 0, 5, 5, 7_000_000, 7_000_000]).unwrap();
        assert!(granted && cells[0].reply.charged);
        assert_eq!((cells[0].leased, cells[0].life, cells[0].at), (3, Micros::from_secs(7), 1_795_000_000_123_456));
        let (granted, cells) = parsed(&[0, NOW, -1, 0, 0, 0, 0]).unwrap();
        assert_eq!((granted, cells[0].reply.wait), (false, Micros::FOREVER));
    }

    #[test]
    fn numbers_that_do_not_fit_the_question_are_garbage() {
        let good = [1, NOW, 0, 5, 5, 7_000_000, 7_000_000];
        let with = |index: usize, number: i64| {
            let mut changed = good;
            changed[index] = number;
            parsed(&changed)
        };
        let wrong: [(usize, &[i64]); 7] = [
            (0, &[-1, 0, 2, i64::MAX]),
            (1, &[-1, 1 << 53, i64::MAX, i64::MIN]),
            (2, &[-2, -1, 1, 1 << 53, i64::MIN]),
            (3, &[-1, 0, 1, 2, 6, i64::MAX]),
            (4, &[-1, 11, i64::MAX]),
            (5, &[-1, 1 << 53]),
            (6, &[-1, 0, 60_000_001, i64::MAX]),
        ];
        for (index, numbers) in wrong {
            for number in numbers {
                assert_eq!(with(index, *number), Err(Failure::Garbage), "{number} at {index}");
            }
        }
        for cut in 0..good.len() {
            assert_eq!(parsed(&good[..cut]), Err(Failure::Garbage), "{cut}");
        }
        assert_eq!(parsed(&[&good[..], &[0]].concat()), Err(Failure::Garbage));
        assert_eq!(parsed(&[&good[..], &good[2..]].concat()), Err(Failure::Garbage));
        // Charged although refused, and by a probe.
        assert_eq!(parsed(&[0, NOW, 1, 2, 0, 0, 0]), Err(Failure::Garbage));
        let asked = [(&request(), Lease::default())];
        assert_eq!(parse(&[1, NOW, 0, 2, 8, 1, 0], &asked, Purpose::Probe), Err(Failure::Garbage));
        assert_eq!(parse(&[1, NOW], &[], Purpose::Acquire), Err(Failure::Garbage));
    }
}
