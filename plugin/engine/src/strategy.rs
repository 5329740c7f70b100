//! What a strategy is: how a [`Denial`] becomes an [`Action`].
//! The built-in strategies live in the files below this one; how an action looks on the wire is `response`'s.

mod graceful;
mod queue;
mod reject;
mod throttle;

pub use graceful::{Graceful, Reduced};
pub use queue::Queue;
pub use reject::Reject;
pub use throttle::Throttle;

use core::fmt;

use crate::time::Micros;

/// Why a request was limited: what the deciding rule's strategy is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The deciding rule's name.
    pub rule: String,
    /// What was against it.
    pub reason: Reason,
    /// What the rule has done for the request all the same.
    pub relief: Relief,
    /// The shortest wait after which every limited, enforced rule would admit the request: the largest of theirs.
    pub retry_after: Micros,
    /// The names of all limited, enforced rules, the deciding one first.
    pub violated: Vec<String>,
}

/// What a rule has done for a request that does not conform now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relief {
    /// Nothing: the request cannot go on.
    None,
    /// The cells are charged for a moment this far ahead, when the request conforms.
    Reserved(Micros),
    /// The request is below the rule's ceiling.
    BelowCeiling,
}

/// What was against a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A quota is used up.
    OverQuota,
    /// The counters changed under every one of the bounded number of tries; nothing was charged.
    Contended,
    /// The store did not answer and the rule says `"on_store_error": "deny"`.
    StoreFailed,
}

impl Reason {
    /// The word that logs and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OverQuota => "over_quota",
            Self::Contended => "contended",
            Self::StoreFailed => "store_failed",
        }
    }
}

/// What the proxy does with the request. Later ones are stricter, and the strictest over all limited rules wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it on.
    Forward,
    /// Serve it in a reduced form.
    Degrade(Reduced),
    /// Hold it this long, then send it on.
    Delay(Micros),
    /// Store it, answer with a ticket, and carry it out after this long.
    Enqueue(Micros),
    /// Answer it with this refusal.
    Respond(Refusal),
}

impl Action {
    /// How strict the action is; the stricter wins.
    pub(crate) fn strictness(&self) -> u8 {
        match self {
            Self::Forward => 0,
            Self::Degrade(_) => 1,
            Self::Delay(_) => 2,
            Self::Enqueue(_) => 3,
            Self::Respond(_) => 4,
        }
    }
}

/// A refusal before it is put into the protocol that the client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// What the body says.
    pub body: Body,
    /// Whether and when the client may try again. `None` sends no `Retry-After` and tells gRPC clients not to retry.
    pub retry_after: Option<Micros>,
}

/// The body of an answer that Tidegate gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `application/problem+json`, made from the denial.
    Problem,
    /// The policy's own text.
    Own {
        /// The `content-type` sent with it.
        content_type: &'static str,
        /// The bytes sent.
        content: String,
    },
}

/// How many requests a worker may hold for a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub waiting: u32,
    /// For one client.
    pub waiting_per_key: u32,
}

/// How a denial becomes an action. Implementations are pure: equal denials give equal actions.
pub trait Strategy: Send + Sync {
    /// The name that policies use.
    fn name(&self) -> &'static str;

    /// What is done with a request that the rule limited.
    fn apply(&self, denial: &Denial) -> Action;

    /// How far ahead the rule's cells may hold reservations. Zero, the default, lets no request wait.
    fn horizon(&self) -> Micros {
        Micros::ZERO
    }

    /// How many requests may be held, where [`Action::Delay`] is an answer of this strategy.
    fn room(&self) -> Option<Room> {
        None
    }

    /// The settings of its queue, where [`Action::Enqueue`] is an answer of this strategy.
    fn queue(&self) -> Option<&Queue> {
        None
    }

    /// A second quota, in millionths of the rule's, that every request of the rule must conform to while the rule's
    /// own only says which of them are limited. `None`, the default: the rule's own quota is the limit.
    fn ceiling_ppm(&self) -> Option<u64> {
        None
    }

    /// Names of the request headers that only this strategy may set: clients' copies are removed. Lower case.
    fn request_headers(&self) -> Vec<&str> {
        Vec::new()
    }
}

impl fmt::Debug for dyn Strategy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The refusal of strategies that cannot help further: what `retry_after` does with its defaults.
pub(crate) fn refuse(denial: &Denial) -> Action {
    Action::Respond(Refusal { status: 429, body: Body::Problem, retry_after: Some(denial.retry_after) })
}
