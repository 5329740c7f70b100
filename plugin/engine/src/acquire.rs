//! The one seam to every store: a request asks for a set of cells, and gets all of its must-cells or none.
//! Where cells are kept is the driver's business; [`Acquire::settle`] is what each driver does in one atomic step.

use crate::algorithm::{Algorithm, Cell, Quota};
use crate::identity::Subject;
use crate::time::{Micros, Timestamp};

/// A set of cells to charge at one moment.
#[derive(Debug)]
pub struct Acquire {
    /// When the request is decided.
    pub now: Timestamp,
    /// Whom the cells belong to; cells refer to these by index, so that those of one identity can be kept together.
    pub subjects: Vec<Subject>,
    /// The cells, in the order of the rules that ask for them.
    pub cells: Vec<CellRequest>,
}

/// One cell that a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct CellRequest {
    /// Index into [`Acquire::subjects`].
    pub subject: usize,
    /// What tells this rule's cells from others' of the same subject: a hash of the rule's name and tag.
    pub rule_id: u64,
    /// Cells of one subject and group are kept together; a group is small enough for one bucket of a table.
    pub group: u32,
    /// How the cell is read and charged.
    pub algorithm: &'static dyn Algorithm,
    /// How much the cell admits.
    pub quota: Quota,
    /// Units to charge; 0 conforms and charges nothing.
    pub cost: u64,
    /// Whether the request may only pass if this cell admits it. A cell that need not is charged where it conforms now.
    pub must: bool,
    /// Whether the request may wait for this cell, as long as the quota's horizon says.
    pub may_wait: bool,
}

/// A driver's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// One answer for each cell asked for, in that order.
    pub cells: Vec<CellReply>,
    /// How the whole ended.
    pub outcome: Outcome,
}

/// How an acquire ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every must-cell conforms within its horizon and is charged.
    Granted,
    /// At least one must-cell does not conform; nothing is charged.
    Refused,
    /// The cells could not be stored: they changed under every one of the bounded number of tries, or do not fit into
    /// their bucket together. Nothing is charged.
    Contended,
}

impl Reply {
    /// Makes it the answer where the cells could not be stored.
    pub fn withdraw(&mut self) {
        self.outcome = Outcome::Contended;
        self.cells.iter_mut().for_each(|cell| cell.charged = false);
    }
}

/// What became of one cell. Durations, never absolute times: another clock may have decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellReply {
    /// How long until the charge conforms; zero is now.
    pub wait: Micros,
    /// Whether the cell is charged, for the moment that lies `wait` ahead.
    pub charged: bool,
    /// Units left after this request.
    pub remaining: u64,
    /// How long until the cell is like new.
    pub reset_after: Micros,
}

/// The store did not answer, or not with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreError;

impl CellRequest {
    /// Whether a charge that must wait this long conforms for this cell.
    pub fn admits(&self, wait: Micros) -> bool {
        wait <= self.reach()
    }

    /// How far ahead this cell may be charged: only a must-cell reserves.
    pub fn reach(&self) -> Micros {
        if self.must && self.may_wait { self.quota.horizon } else { Micros::ZERO }
    }

    /// The cell after the charge, and how long the charge must wait; `None` for the cell where nothing is charged.
    pub fn charge(&self, cell: Cell, now: Timestamp) -> (Option<Cell>, Micros) {
        if self.cost == 0 {
            return (None, Micros::ZERO);
        }
        let plan = self.algorithm.plan(cell, &self.quota, self.cost, now);
        (self.admits(plan.wait).then_some(plan.cell), plan.wait)
    }

    /// What is told of a cell as it stands.
    pub fn reply(&self, cell: Cell, wait: Micros, charged: bool, now: Timestamp) -> CellReply {
        let standing = self.algorithm.standing(cell, &self.quota, now);
        CellReply { wait, charged, remaining: standing.remaining, reset_after: standing.reset_after }
    }

    /// The cell after giving back what `reply` says was charged at `charged`; `None` where nothing was.
    pub fn refund(&self, cell: Cell, reply: &CellReply, charged: Timestamp, now: Timestamp) -> Option<Cell> {
        #[expect(clippy::arithmetic_side_effects, reason = "a Timestamp saturates")]
        let at = charged + reply.wait;
        reply.charged.then(|| self.algorithm.refund(cell, &self.quota, self.cost, at, now))
    }
}

impl Acquire {
    /// Decides over `cells`, the stored state of each cell asked for, in order. Where every must-cell conforms within
    /// its horizon, all of them and every other cell that conforms now are charged in place; otherwise none is. A cell
    /// of a clock that stepped back is pulled to this one in any case: what changed here must be stored, or the client
    /// would wait for the old clock.
    pub fn settle(&self, cells: &mut [Cell]) -> Reply {
        for (request, cell) in self.cells.iter().zip(cells.iter_mut()) {
            *cell = request.algorithm.pull(*cell, &request.quota, self.now);
        }
        let charges: Vec<(Option<Cell>, Micros)> =
            self.cells.iter().zip(cells.iter()).map(|(request, cell)| request.charge(*cell, self.now)).collect();
        let granted =
            self.cells.iter().zip(&charges).all(|(request, (_, wait))| !request.must || request.admits(*wait));
        let mut replies = Vec::with_capacity(self.cells.len());
        for ((request, cell), (charged, wait)) in self.cells.iter().zip(cells.iter_mut()).zip(charges) {
            let is_charged = granted && charged.is_some();
            if let (true, Some(charged)) = (granted, charged) {
                *cell = charged;
            }
            replies.push(request.reply(*cell, wait, is_charged, self.now));
        }
        Reply { cells: replies, outcome: if granted { Outcome::Granted } else { Outcome::Refused } }
    }
}
