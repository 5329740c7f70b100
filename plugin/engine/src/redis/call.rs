//! One run of a script: its keys and its arguments. How they travel is `body`'s, when they do is `conversation`'s.

use super::lease::Lease;
use super::script::{ACQUIRE, Script};
use crate::acquire::{Acquire, CellRequest};
use crate::time::Micros;

/// One run of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which one.
    pub script: &'static Script,
    /// The cells' names. All that live in one Cluster slot, where the store is known to be a Cluster.
    pub keys: Vec<String>,
    /// What is to be done, then a line a key.
    pub arguments: Vec<String>,
}

/// Units that are charged, and can be given back.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The cell's name.
    pub key: &'a str,
    /// How the cell counts.
    pub request: &'a CellRequest,
    /// How many units to give back.
    pub units: u64,
    /// The moment that they were charged for, on the store's clock: [`super::CellOutcome::at`].
    pub at: u64,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Acquire,
    Probe,
}

impl Call {
    /// Asks for those of an acquire's cells that `chosen` names by index.
    pub(super) fn ask(
        purpose: Purpose,
        acquire: &Acquire,
        chosen: &[usize],
        keys: &[String],
        leases: &[Lease],
    ) -> Self {
        let mut call = Self::empty(if purpose == Purpose::Acquire { "acquire" } else { "probe" });
        for index in chosen {
            let (Some(request), Some(key)) = (acquire.cells.get(*index), keys.get(*index)) else { continue };
            let lease = leases.get(*index).copied().unwrap_or_default();
            let most = lease.most.max(request.cost);
            call.add(key, line(request, request.cost, most, lease.less));
        }
        call
    }

    /// Gives back what is charged, each on its own terms: a refund never lets later requests exceed the quota, so part
    /// of it may be forfeited. One call, or in a Cluster one for each identity. Their answers tell nothing.
    pub fn refunds(charges: &[Charge<'_>], is_cluster: bool) -> Vec<Self> {
        let mut calls: Vec<Self> = Vec::new();
        for charge in charges.iter().filter(|charge| charge.units > 0) {
            let shares = |call: &&mut Self| {
                !is_cluster || call.keys.first().is_some_and(|first| hash_tag(first) == hash_tag(charge.key))
            };
            let line = line(charge.request, charge.units, charge.at, Micros::ZERO);
            if let Some(call) = calls.iter_mut().find(shares) {
                call.add(charge.key, line);
            } else {
                let mut call = Self::empty("refund");
                call.add(charge.key, line);
                calls.push(call);
            }
        }
        calls
    }

    /// Forgets cells. One call, or in a Cluster one for each identity.
    pub fn clears(acquire: &Acquire, keys: &[String], is_cluster: bool) -> Vec<Self> {
        let charges: Vec<Charge<'_>> =
            acquire.cells.iter().zip(keys).map(|(request, key)| Charge { key, request, units: 1, at: 0 }).collect();
        let mut calls = Self::refunds(&charges, is_cluster);
        for call in &mut calls {
            if let Some(purpose) = call.arguments.first_mut() {
                "clear".clone_into(purpose);
            }
        }
        calls
    }

    /// A probe of the store itself: it names no cell.
    pub fn of_nothing() -> Self {
        Self::empty("probe")
    }

    /// A probe of what this call asked for, where it asked for cells: it names the same keys, so in a Cluster it reaches the
    /// same node.
    #[must_use]
    pub fn to_probe(&self) -> Self {
        if !core::ptr::eq(self.script, &raw const ACQUIRE) {
            return Self::of_nothing();
        }
        let mut probe = self.clone();
        if let Some(purpose) = probe.arguments.first_mut() {
            "probe".clone_into(purpose);
        }
        probe
    }

    fn empty(purpose: &str) -> Self {
        Self { script: &ACQUIRE, keys: Vec::new(), arguments: vec![purpose.to_owned()] }
    }

    fn add(&mut self, key: &str, line: String) {
        self.keys.push(key.to_owned());
        self.arguments.push(line);
    }
}

/// The part of a key that a Cluster hashes.
fn hash_tag(key: &str) -> &str {
    key.split_once('}').map_or(key, |(tag, _)| tag)
}

/// `algorithm rate window burst horizon cost mode most less`. A letter that the script does not know, which no policy
/// with this store can bring about, is an error of its.
fn line(cell: &CellRequest, cost: u64, most: u64, less: Micros) -> String {
    let mut out = match cell.algorithm.name() {
        "token_bucket" => "t",
        "leaky_bucket" => "l",
        "fixed_window" => "f",
        "sliding_window" => "s",
        _ => "?",
    }
    .to_owned();
    let quota = &cell.quota;
    for number in [quota.rate.get(), quota.window.0, quota.burst.get(), quota.horizon.0, cost] {
        out.push(' ');
        out.push_str(&number.to_string());
    }
    out.push_str(match (cell.must, cell.may_wait) {
        (true, false) => " m ",
        (true, true) => " w ",
        (false, _) => " s ",
    });
    out.push_str(&most.to_string());
    out.push(' ');
    out.push_str(&less.0.to_string());
    out
}
