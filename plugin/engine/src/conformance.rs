//! Whether an algorithm or a strategy of your own keeps its contract: one call in a test. [`check`] makes up thousands of
//! quotas and histories, lives through them and reports the shortest history that it can find that goes wrong.
//!
//! ```
//! use tidegate_engine::algorithm::TOKEN_BUCKET;
//! use tidegate_engine::conformance::{Promise, check};
//!
//! check(&TOKEN_BUCKET, Promise::Burst).unwrap_or_else(|violation| panic!("{violation}"));
//! ```
//!
//! Everything is made from seeds by arithmetic, so that a test that passed passes again. Nothing here is part of a
//! plugin: a linker leaves out what is not called. Not here: whether an algorithm is useful, and how fast it is.

// What overflows here is a failed test, not a proxy that stands still; and a saturated sum would judge wrongly.
#![allow(clippy::arithmetic_side_effects)]

mod client;
mod inspect;
mod promise;
mod random;
mod shrink;
mod strategy;

pub use strategy::{Misuse, check_strategy};

use core::fmt;
use core::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::algorithm::{Algorithm, Quota};
use crate::time::Timestamp;
use random::{Case, Random};

/// How many histories [`check`] lives through: a second's work in a debug build.
const HISTORIES: u64 = 4_000;
/// How many single calls with extreme arguments it makes.
const EXTREMES: u64 = 20_000;

/// What an algorithm says that it never admits more than. "Real" time is what passes between two requests, whatever
/// the clock then says.
#[derive(Clone, Copy, Debug)]
pub enum Promise {
    /// In any interval of real time from a to b, both included, at most burst + rate x (b - a) / window.
    Burst,
    /// From one request to a later one, more real time than rate x window admits of the first and all between, less one
    /// microsecond.
    Spacing,
    /// At most `rate` in each window, counted from the epoch, on a clock that does not step back.
    AlignedWindow,
    /// At most `rate` in any half-open interval of real time that is as long as the window.
    AnyWindow,
    /// Whatever this function says.
    Own(Judge),
}

/// Judges everything that one cell admitted, in the order of [`Admission::at`]. `Err` says what is too much.
pub type Judge = fn(&Quota, &[Admission]) -> Result<(), String>;

/// Something that a cell admitted and that was not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Units of cost.
    pub cost: u64,
    /// The release in real time: on a clock that was right at the start and never stepped back.
    pub at: Timestamp,
    /// The release on the clock that was told to the algorithm; the same as `at` unless that stepped back.
    pub told: Timestamp,
}

/// What the contract says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// No argument may panic.
    NoPanic,
    /// Equal arguments give equal results, whatever was called before.
    Pure,
    /// What is admitted never exceeds the promise.
    NeverOver,
    /// The same charge conforms `wait` later, giving the same cell, and no microsecond sooner.
    ExactWait,
    /// A cost conforms in the end if it is at most `largest_cost`, else never.
    LargestCost,
    /// The default cell is that of a client never seen: the largest cost conforms at once.
    NewClient,
    /// `remaining` is what conforms now, and after `reset_after` the cell is as good as new.
    Standing,
    /// A refund leaves a client no worse off than before it, and no better off than before the charge.
    Refund,
    /// `pull` changes nothing while the clock does not step back, is done once, and shows the cell as others read it.
    Pull,
    /// No cell, whatever wrote it, makes anybody wait for more than the horizon and two and an eighth windows.
    NoLockout,
    /// Who asks first is released first.
    NoOvertaking,
}

/// A history in which an algorithm does not keep its contract.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The algorithm's name.
    pub algorithm: &'static str,
    /// What it does not keep.
    pub clause: Clause,
    /// What was found, and what is allowed.
    pub found: String,
    /// The quota at which it happens.
    pub quota: Quota,
    /// What leads there, step by step; for a single call, its arguments.
    pub history: Vec<String>,
    /// The seed it was found with: see [`check_seeds`].
    pub seed: u64,
}

/// One thing found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    clause: Clause,
    found: String,
}

impl Fault {
    fn new(clause: Clause, found: impl Into<String>) -> Self {
        Self { clause, found: found.into() }
    }
}

/// Whether `algorithm` keeps the contract of [`Algorithm`] and its promise. To be called in a debug build, where
/// overflowing arithmetic panics and so is found.
///
/// # Errors
/// The first violation found, its history made as short as can be.
pub fn check(algorithm: &dyn Algorithm, promise: Promise) -> Result<(), Box<Violation>> {
    check_seeds(algorithm, promise, 0..HISTORIES)
}

/// As [`check`], with a history for each of these seeds: one seed to see a violation again, a million to search deeper.
///
/// # Errors
/// As [`check`].
pub fn check_seeds(algorithm: &dyn Algorithm, promise: Promise, seeds: Range<u64>) -> Result<(), Box<Violation>> {
    let violation = |Fault { clause, found }, quota, history, seed| {
        Err(Box::new(Violation { algorithm: algorithm.name(), clause, found, quota, history, seed }))
    };
    let mut random = Random::new(seeds.start);
    for _ in 0..EXTREMES {
        let (quota, arguments, outcome) = inspect::extremes(algorithm, &mut random);
        if let Err(fault) = outcome {
            return violation(fault, quota, vec![arguments], seeds.start);
        }
    }
    for seed in seeds {
        let case = Case::new(algorithm, seed);
        if let Err(fault) = live_through(algorithm, promise, &case) {
            let (case, fault) = shrink::shortest(algorithm, promise, case, fault);
            return violation(fault, case.quota, client::story(algorithm, promise, &case), seed);
        }
    }
    Ok(())
}

/// Lives through a history; a panic is a fault too.
fn live_through(algorithm: &dyn Algorithm, promise: Promise, case: &Case) -> Result<(), Fault> {
    or_panic(|| client::live_through(algorithm, promise, case))
}

/// What `work` says, or that it panics.
fn or_panic(work: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
        Err(Fault::new(Clause::NoPanic, format!("a panic, {}", text.unwrap_or("without a message"))))
    })
}

impl fmt::Display for Clause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoPanic => "no argument may panic",
            Self::Pure => "equal arguments give equal results",
            Self::NeverOver => "what is admitted never exceeds the promise",
            Self::ExactWait => "the same charge conforms exactly when `wait` is over, and gives the same cell",
            Self::LargestCost => "a cost conforms in the end if it is at most `largest_cost`, else never",
            Self::NewClient => "the default cell admits the largest cost at once",
            Self::Standing => "`remaining` conforms now, and after `reset_after` the cell is as good as new",
            Self::Refund => "a refund makes nobody worse off, and nobody better off than before the charge",
            Self::Pull => "`pull` is the cell as others read it, and itself unless the clock stepped back",
            Self::NoLockout => "nobody waits for more than the horizon and two and an eighth windows",
            Self::NoOvertaking => "who asks first is released first",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} breaks the contract: {}", self.algorithm, self.clause)?;
        writeln!(out, "  found: {}", self.found)?;
        let Quota { rate, window, burst, horizon } = self.quota;
        let [window, horizon] = [window, horizon].map(|time| client::length(time.0));
        writeln!(out, "  quota: rate {rate}, window {window}, burst {burst}, horizon {horizon}")?;
        for (number, step) in (1..).zip(&self.history) {
            writeln!(out, "  {number:>3}. {step}")?;
        }
        write!(out, "  seed: {}", self.seed)
    }
}

impl core::error::Error for Violation {}
