//! The state at run time in shared data: read whole, replaced by compare-and-swap.

use tidegate_engine::Response;
use tidegate_engine::admin::answer;
use tidegate_engine::admin::runtime::{Refused, Runtime};

use super::Operated;
use crate::host::{self, IF_ABSENT, Level, Status};

/// How often a change is tried again after somebody else was faster.
const TRIES: u32 = 64;

/// What follows a state, and what its author is told.
pub(crate) type Draft = (Runtime, Response);

impl Operated {
    /// The state as it is now, with its CAS number. What cannot be read is a state in which nothing was done.
    pub(super) fn read_state(&self) -> (Runtime, u32) {
        let (bytes, cas) = match host::shared(&self.key(b'A')) {
            Ok(found) => found,
            Err(Status::NOT_FOUND) => return (Runtime::default(), IF_ABSENT),
            Err(_) => (Vec::new(), IF_ABSENT),
        };
        let runtime = Runtime::read(&bytes).unwrap_or_else(|| {
            host::log(Level::Error, "the admin API's state in shared data is damaged and taken for empty");
            Runtime::default()
        });
        (runtime, cas)
    }

    /// Puts what follows the state of this proxy in its place. Every worker sees it at its next request.
    ///
    /// # Errors
    /// The answer that says why it is not done.
    pub(super) fn change(&self, draft: &dyn Fn(Runtime) -> Result<Draft, Response>) -> Result<Response, Response> {
        for _ in 0..TRIES {
            let (known, cas) = self.read_state();
            let (next, response) = draft(known.clone())?;
            let bytes = next.bytes().map_err(refused)?;
            match self.replace(&known, cas, &next, &bytes) {
                Ok(()) => return Ok(response),
                Err(Status::CAS_MISMATCH) => {}
                Err(_) => break,
            }
        }
        Err(answer::problem(503, "The proxy's shared data did not take the change."))
    }

    /// Takes over the state that a fleet goes on with, where that is not this proxy's; its counting goes on.
    pub(super) fn adopt(&self, next: &Runtime) {
        for _ in 0..TRIES {
            let (known, cas) = self.read_state();
            if !next.supersedes(&known) {
                return;
            }
            let mut next = next.clone();
            next.keep_baselines(&known);
            let Ok(bytes) = next.bytes() else {
                return self.complain("what the fleet's store has is too large for this proxy");
            };
            if self.replace(&known, cas, &next, &bytes) != Err(Status::CAS_MISMATCH) {
                return;
            }
        }
    }

    /// Tells the host's log why what is due is not done, once until it is done again.
    pub(super) fn complain(&self, why: &str) {
        if !self.was_stuck.replace(true) {
            host::log(Level::Error, why);
        }
    }

    /// Tells the host's log what is new, once it is written.
    fn replace(&self, known: &Runtime, cas: u32, next: &Runtime, bytes: &[u8]) -> Result<(), Status> {
        if next.generation != known.generation || next.tag() != known.tag() {
            host::set_shared(&self.key(b'A'), bytes, cas)?;
            self.changes.add(1);
        }
        self.was_stuck.set(false);
        for entry in next.trail.since(&known.trail) {
            host::log(Level::Info, &entry.line());
        }
        Ok(())
    }
}

/// The answer for what the state refuses.
pub(super) fn refused(why: Refused) -> Response {
    match why {
        Refused::Absent => answer::problem(404, "There is no such thing."),
        Refused::Full => answer::problem(
            409,
            "There is room for 100 rules, 256 overrides and 350000 bytes of both; remove some first.",
        ),
    }
}
