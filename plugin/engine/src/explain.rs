//! What Tidegate would do with a request, and why: which rules apply and with which counters, what keeps each other
//! rule off, and what would be left. The same matching and the same arithmetic decide as for a request that is charged;
//! here nothing is.

mod words;

use crate::acquire::{Acquire, CellReply, CellRequest};
use crate::algorithm::{Cell, Quota};
use crate::decision::{Decision, Verdict};
use crate::engine::{Engine, Step};
use crate::identity::{Identity, Subject};
use crate::matching::Obstacle;
use crate::path::Readings;
use crate::request::Request;
use crate::time::Timestamp;

/// All that can be said of a request.
#[derive(Debug)]
pub struct Explanation {
    /// The path without its query, as sent.
    pub path_as_sent: Vec<u8>,
    /// The path in its normalised reading.
    pub path_normalised: Vec<u8>,
    /// Who the request counts against.
    pub identity: Identity,
    /// The client is an admin: counted, never limited.
    pub is_admin: bool,
    /// One finding for each rule, in the policy's order.
    pub rules: Vec<Finding>,
    /// The decision that the request would get.
    pub decision: Decision,
}

/// What a rule has to do with a request.
#[derive(Debug)]
pub enum Finding {
    /// It applies.
    Applies {
        /// What it says, as after this request.
        verdict: Verdict,
        /// The cells that count the request, at least one.
        cells: Vec<CellFinding>,
    },
    /// It does not.
    DoesNotApply(Obstacle),
}

/// A cell that a request would charge.
#[derive(Debug)]
pub struct CellFinding {
    /// Whom the cell counts for.
    pub subject: Subject,
    /// How much it admits.
    pub quota: Quota,
    /// It counts the ceiling of a rule that limits softly, not the rule's own quota.
    pub is_ceiling: bool,
    /// How it would stand after this request; where that is refused, as it stands now.
    pub reply: CellReply,
}

/// Explains a request. `look` gives a cell as it is stored, or `Cell::default()` for one that is not.
pub fn explain(
    engine: &Engine,
    request: &Request<'_>,
    now: Timestamp,
    mut look: impl FnMut(&Acquire, &CellRequest) -> Cell,
) -> Explanation {
    let policy = engine.policy();
    let path = Readings::of(request.path(), policy.paths_are_loose);
    let identity = Identity::of(request, &policy.identity);
    let (decision, cells) = match engine.check(request, now) {
        Step::Done(decision) => (decision, Vec::new()),
        Step::Pending(pending) => {
            let acquire = pending.acquire();
            let mut stored: Vec<Cell> = acquire.cells.iter().map(|cell| look(acquire, cell)).collect();
            let reply = acquire.settle(&mut stored);
            let cells = findings(acquire, &reply.cells, pending.cell_rules());
            match pending.resume(Ok(reply)) {
                Step::Done(decision) => (decision, cells),
                // A store is asked once a request.
                Step::Pending(_) => (Decision::unlimited(), cells),
            }
        }
    };
    let mut rules: Vec<Option<Finding>> = policy.rules.iter().map(|_| None).collect();
    for (rule, obstacle) in engine.obstacles(request, &identity, now) {
        if let Some(place) = rules.get_mut(rule) {
            *place = Some(Finding::DoesNotApply(obstacle));
        }
    }
    for verdict in &decision.verdicts {
        if let Some(place) = rules.get_mut(verdict.rule) {
            *place = Some(Finding::Applies { verdict: *verdict, cells: Vec::new() });
        }
    }
    for (rule, cell) in cells {
        if let Some(Some(Finding::Applies { cells, .. })) = rules.get_mut(rule) {
            cells.push(cell);
        }
    }
    Explanation {
        path_as_sent: path.as_sent.to_vec(),
        path_normalised: path.normalised.to_vec(),
        is_admin: policy.admins.hold(&identity),
        identity,
        // Every rule either applies or has an obstacle.
        rules: rules.into_iter().map(|found| found.unwrap_or(Finding::DoesNotApply(Obstacle::Disabled))).collect(),
        decision,
    }
}

fn findings(
    acquire: &Acquire,
    replies: &[CellReply],
    rules: impl Iterator<Item = (usize, bool)>,
) -> Vec<(usize, CellFinding)> {
    let cells = acquire.cells.iter().zip(replies).zip(rules);
    cells
        .filter_map(|((cell, reply), (rule, is_ceiling))| {
            let subject = acquire.subjects.get(cell.subject)?.clone();
            Some((rule, CellFinding { subject, quota: cell.quota, is_ceiling, reply: *reply }))
        })
        .collect()
}

#[cfg(test)]
mod tests;
