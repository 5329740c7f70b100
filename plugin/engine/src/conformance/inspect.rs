//! What must hold in every state that a history leads to, and for every single call whatever its arguments are.

use super::client::Client;
use super::random::Random;
use super::{Clause, Fault, or_panic};
use crate::algorithm::{Algorithm, Cell, Plan, Quota, Standing};
use crate::time::{Micros, Timestamp};

/// `remaining` may exceed what one request may cost, and is then charged in pieces, no more than this many.
const PIECES: u64 = 16;

/// One call of everything with arguments that nobody expects: the quota, all arguments as text, and what is wrong.
pub(super) fn extremes(algorithm: &dyn Algorithm, random: &mut Random) -> (Quota, String, Result<(), Fault>) {
    let quota = random.quota_of_any_words();
    let cell = Cell([random.word(), random.word(), random.word()]);
    let cost = random.word().max(1);
    let [now, charged_at] = [random.word(), random.word()].map(Timestamp::from_micros);
    let arguments =
        format!("cell {:?}, cost {cost}, now {} us, charged at {} us", cell.0, now.micros(), charged_at.micros());
    let outcome = or_panic(|| {
        let all = || {
            let plan = algorithm.plan(cell, &quota, cost, now);
            let pulled = algorithm.pull(cell, &quota, now);
            let refunded = algorithm.refund(cell, &quota, cost, charged_at, now);
            let standing = algorithm.standing(plan.cell, &quota, now + plan.wait);
            let bounds = (algorithm.largest_cost(&quota), algorithm.longest_line(&quota));
            (plan, pulled, refunded, standing, algorithm.standing(cell, &quota, now), bounds, algorithm.name())
        };
        let results = all();
        if results != all() {
            return Err(Fault::new(Clause::Pure, "two calls with equal arguments that differ"));
        }
        let (plan, .., (largest, _), _) = results;
        if cost > largest && plan.wait != Micros::FOREVER {
            return Err(never(cost, largest, plan));
        }
        Ok(())
    });
    (quota, arguments, outcome)
}

/// What must hold for the default cell.
pub(super) fn new_client(client: &Client<'_>) -> Result<(), Fault> {
    let largest = client.largest();
    let wait = client.plan(largest).wait;
    if wait != Micros::ZERO {
        return Err(Fault::new(Clause::NewClient, format!("a cost of {largest} that waits {wait}")));
    }
    Ok(())
}

/// What must hold in the state that a client is in.
pub(super) fn state(client: &Client<'_>) -> Result<(), Fault> {
    let pulled = client.algorithm.pull(client.cell, &client.quota, client.now());
    let pulled = View { client, cell: pulled };
    pulled.is_what_others_read()?;
    let largest = client.largest();
    for cost in [1, largest.div_ceil(3), largest] {
        pulled.wait_is_exact(cost)?;
        pulled.refund_is_fair(cost)?;
    }
    if let Some(more) = largest.checked_add(1) {
        let plan = pulled.plan(more, Micros::ZERO);
        if plan.wait != Micros::FOREVER {
            return Err(never(more, largest, plan));
        }
    }
    pulled.remaining_conforms()?;
    pulled.reset_is_complete()
}

fn never(cost: u64, largest: u64, plan: Plan) -> Fault {
    let found = format!("a cost of {cost} that waits {}, allowed: FOREVER above {largest}", plan.wait);
    Fault::new(Clause::LargestCost, found)
}

/// A client's cell as a store holds it now: pulled.
struct View<'a> {
    client: &'a Client<'a>,
    cell: Cell,
}

impl View<'_> {
    fn now(&self) -> Timestamp {
        self.client.now()
    }

    fn plan(&self, cost: u64, passed: Micros) -> Plan {
        self.client.algorithm.plan(self.cell, &self.client.quota, cost, self.now() + passed)
    }

    fn standing(&self, cell: Cell, passed: Micros) -> Standing {
        self.client.algorithm.standing(cell, &self.client.quota, self.now() + passed)
    }

    fn wait(&self, cell: Cell) -> Micros {
        self.client.algorithm.plan(cell, &self.client.quota, 1, self.now()).wait
    }

    fn is_what_others_read(&self) -> Result<(), Fault> {
        let Client { algorithm, quota, cell, .. } = self.client;
        let again = algorithm.pull(self.cell, quota, self.now());
        if again != self.cell {
            let found = format!("{:?} pulled to {:?}, and that to {:?}", cell.0, self.cell.0, again.0);
            return Err(Fault::new(Clause::Pull, found));
        }
        let as_stored = (self.client.plan(1), self.standing(*cell, Micros::ZERO));
        let as_pulled = (self.plan(1, Micros::ZERO), self.standing(self.cell, Micros::ZERO));
        if as_stored != as_pulled {
            let found = format!("{as_stored:?} from {:?}, and pulled {as_pulled:?} from {:?}", cell.0, self.cell.0);
            return Err(Fault::new(Clause::Pull, found));
        }
        if self.client.plan(1) != as_stored.0 {
            return Err(Fault::new(Clause::Pure, "two equal calls of plan that differ"));
        }
        Ok(())
    }

    fn wait_is_exact(&self, cost: u64) -> Result<(), Fault> {
        let plan = self.plan(cost, Micros::ZERO);
        let Quota { window, horizon, .. } = self.client.quota;
        if plan.wait == Micros::FOREVER {
            let found = format!("a cost of {cost} that waits for ever, allowed: only above {}", self.client.largest());
            return Err(Fault::new(Clause::LargestCost, found));
        }
        let longest = Micros(horizon.0 + 2 * window.0 + window.0 / 8);
        if plan.wait > longest {
            let found = format!("a cost of {cost} that waits {}, allowed: up to {longest}", plan.wait);
            return Err(Fault::new(Clause::NoLockout, found));
        }
        for passed in [plan.wait.0 / 2, plan.wait.0.saturating_sub(1), plan.wait.0].map(Micros) {
            let then = self.plan(cost, passed);
            if then.wait != plan.wait.saturating_sub(passed) {
                let found = format!("a cost of {cost} that waits {} and, {passed} later, {}", plan.wait, then.wait);
                return Err(Fault::new(Clause::ExactWait, found));
            }
            if then.cell != plan.cell {
                let found = format!("a cost of {cost} that makes {:?} and, {passed} later,", plan.cell.0);
                return Err(Fault::new(Clause::ExactWait, format!("{found} {:?}", then.cell.0)));
            }
        }
        Ok(())
    }

    /// A charge that is given back at once.
    fn refund_is_fair(&self, cost: u64) -> Result<(), Fault> {
        let Client { algorithm, quota, .. } = self.client;
        let plan = self.plan(cost, Micros::ZERO);
        if plan.wait > quota.horizon {
            return Ok(());
        }
        let refunded = algorithm.refund(plan.cell, quota, cost, self.now() + plan.wait, self.now());
        let waits = [self.cell, refunded, plan.cell].map(|cell| self.wait(cell));
        if !waits.is_sorted() {
            let [before, after, charged] = waits;
            let found =
                format!("waits of {before} before a charge of {cost}, {after} after its refund, {charged} without");
            return Err(Fault::new(Clause::Refund, found));
        }
        Ok(())
    }

    fn remaining_conforms(&self) -> Result<(), Fault> {
        let Client { algorithm, quota, .. } = self.client;
        let standing = self.standing(self.cell, Micros::ZERO);
        let (mut left, mut cell) = (standing.remaining, self.cell);
        for _ in 0..PIECES {
            let cost = left.min(self.client.largest());
            if cost == 0 {
                break;
            }
            let plan = algorithm.plan(cell, quota, cost, self.now());
            if plan.wait != Micros::ZERO {
                let found = format!("{} remaining, of which {left} wait {}", standing.remaining, plan.wait);
                return Err(Fault::new(Clause::Standing, found));
            }
            (left, cell) = (left - cost, plan.cell);
        }
        // Where more than one unit is admitted a microsecond, one may fit into what is left of the present one.
        if left == 0 && quota.window.0 >= quota.rate.get() && self.wait(cell) == Micros::ZERO {
            let found = format!("{} remaining, and one more that conforms", standing.remaining);
            return Err(Fault::new(Clause::Standing, found));
        }
        Ok(())
    }

    fn reset_is_complete(&self) -> Result<(), Fault> {
        let reset_after = self.standing(self.cell, Micros::ZERO).reset_after;
        let [then, fresh] = [self.cell, Cell::default()].map(|cell| self.standing(cell, reset_after));
        let wait = self.plan(self.client.largest(), reset_after).wait;
        if then != fresh || wait != Micros::ZERO {
            let found = format!("{then:?} after the reset in {reset_after}, {fresh:?} of a new client; waits {wait}");
            return Err(Fault::new(Clause::Standing, found));
        }
        Ok(())
    }
}
