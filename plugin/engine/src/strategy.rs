//! What a strategy is: how a [`Denial`] becomes an [`Action`].
//! The built-in strategies live in the files below this one; how an action looks on the wire is `response`'s.

mod reject;

pub use reject::Reject;

use core::fmt;

use crate::algorithm::Quota;
use crate::time::Micros;

/// Why a request was limited: what the deciding rule's strategy is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The deciding rule's name.
    pub rule: String,
    /// What was against it.
    pub reason: Reason,
    /// The shortest wait after which every limited, enforced rule would admit the request: the largest of theirs.
    pub retry_after: Micros,
    /// Where the algorithm has reserved a later moment for this request: how far away that is.
    pub reserved: Option<Micros>,
    /// The names of all limited, enforced rules, the deciding one first.
    pub violated: Vec<String>,
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

/// What the proxy does with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it on.
    Forward,
    /// Answer it with this refusal.
    Respond(Refusal),
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

/// How a denial becomes an action. Implementations are pure.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// The name that policies use.
    fn name(&self) -> &'static str;

    /// How far ahead this strategy lets the rule's cells hold reservations. Zero, the default, lets none wait.
    fn horizon(&self, quota: &Quota) -> Micros {
        let _ = quota;
        Micros::ZERO
    }

    /// What is done with a request that the rule limited.
    fn apply(&self, denial: &Denial) -> Action;
}
