//! A request body that an exchange waits for: how long it may take, and whether the host shows bodies at all.

use tidegate_engine::admin::answer::problem;
use tidegate_engine::{Micros, Response, Timestamp};

use crate::host::{self, Level};
use crate::root::Deployment;
use crate::waiting::Seat;

/// How long the first piece may take. It is shorter than a proxy's idle timeout, which would end the request unexplained.
const BEGUN_WITHIN: Micros = Micros::from_secs(10);

/// How long the whole may take: until then a request that sends it slowly keeps a place that others need.
const WHOLE_WITHIN: Micros = Micros::from_secs(30);

/// What came of a body so far.
#[derive(Debug)]
pub(super) struct Body {
    /// Where it waits, for its first piece and then for its last.
    seat: Seat,
    whole_by: Timestamp,
    has_begun: bool,
    /// What the host had received of the request when it began to wait.
    received: Option<u64>,
}

impl Body {
    /// The body of an exchange whose headers have come.
    pub(super) fn awaited(exchange: u32, deployment: &Deployment) -> Self {
        let now = host::steady();
        let seat = deployment.waiting.borrow_mut().enter(exchange, Vec::new(), now + BEGUN_WITHIN);
        Self { seat, whole_by: now + WHOLE_WITHIN, has_begun: false, received: received() }
    }

    /// Notes that a piece of it came.
    pub(super) fn came(&mut self, exchange: u32, deployment: &Deployment) {
        if !self.has_begun {
            self.leave(deployment);
            self.has_begun = true;
            self.seat = deployment.waiting.borrow_mut().enter(exchange, Vec::new(), self.whole_by);
        }
    }

    /// Waits no longer.
    pub(super) fn leave(&self, deployment: &Deployment) {
        deployment.waiting.borrow_mut().leave(self.seat);
    }

    /// What its exchange is answered when it has waited too long. A host that received more than it showed shows nothing of
    /// any body: the exchanges that follow need not wait for theirs.
    pub(super) fn overdue(&self, deployment: &Deployment) -> Response {
        if self.has_begun {
            return problem(408, "The request body did not come whole within 30 s.");
        }
        let is_hidden = self.received.zip(received()).map(|(before, now)| before < now);
        if is_hidden == Some(false) {
            return problem(408, "No request body came within 10 s.");
        }
        host::log(Level::Error, HIDDEN);
        deployment.bodies_are_hidden.set(is_hidden.is_some());
        hidden()
    }
}

/// Why there are no bodies.
const HIDDEN: &str = "This proxy does not show request bodies to its plugin: the plugin's configuration lacks \
     allow_on_headers_stop_iteration.";

/// The answer where the host shows no bodies.
pub(super) fn hidden() -> Response {
    problem(503, HIDDEN)
}

/// How many bytes of the request the host has received; `None` where it does not say.
fn received() -> Option<u64> {
    let bytes = host::property(["request", "total_size"]).ok()?;
    bytes.first_chunk().map(|word| u64::from_le_bytes(*word))
}
