//! The state at run time in shared data: read whole, changed by compare-and-swap.

use tidegate_engine::admin::answer;
use tidegate_engine::admin::audit::Entry;
use tidegate_engine::admin::runtime::{Refused, Runtime};
use tidegate_engine::{Response, Timestamp};

use super::Operated;
use crate::host::{self, IF_ABSENT, Level, Status};

/// How often a change is tried again after somebody else was faster.
const TRIES: u32 = 64;

/// What is changed, and the notes of it; no notes, no change.
pub(super) type Change<'c> = &'c dyn Fn(&mut Runtime) -> Result<Vec<Entry>, Response>;

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

    /// Makes a change, and notes the grants that have ended with it. Every worker sees it at its next request.
    ///
    /// # Errors
    /// The answer that says why it is not made.
    pub(super) fn change(&self, now: Timestamp, change: Change<'_>) -> Result<(), Response> {
        for _ in 0..TRIES {
            let (mut runtime, cas) = self.read_state();
            let mut entries = runtime.expire(now);
            entries.extend(change(&mut runtime)?);
            if entries.is_empty() {
                return Ok(());
            }
            let bytes = runtime.bytes().map_err(refused)?;
            match host::set_shared(&self.key(b'A'), &bytes, cas) {
                Ok(()) => {
                    self.changes.add(1);
                    for entry in &entries {
                        host::log(Level::Info, &entry.line());
                    }
                    return Ok(());
                }
                Err(Status::CAS_MISMATCH) => {}
                Err(_) => break,
            }
        }
        Err(answer::problem(503, "The proxy's shared data did not take the change."))
    }
}

/// The answer for what the state refuses.
pub(super) fn refused(why: Refused) -> Response {
    match why {
        Refused::Absent => answer::problem(404, "There is no such thing."),
        Refused::Full => answer::problem(409, "There is no room for more; remove some first."),
    }
}
