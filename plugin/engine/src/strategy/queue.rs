//! `queue`: takes a limited request as a job, answers with a ticket, and has it carried out at the rule's own rate.
//! Where jobs are kept and who carries them out is the host's side; this file says when and how.

use super::{Action, Denial, Refusal, Relief, Strategy, refuse};
use crate::time::Micros;

/// Takes limited requests as jobs. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The proxy's cluster that carries jobs out.
    pub cluster: String,
    /// The `:authority` of the calls.
    pub authority: String,
    /// How many jobs may wait.
    pub max_queued: u32,
    /// The largest request body.
    pub max_body_bytes: usize,
    /// Names of the request headers that a job keeps, lower case.
    pub headers: Vec<String>,
    /// How often a job is tried.
    pub max_attempts: u32,
    /// The wait before the second try; it doubles.
    pub backoff: Micros,
    /// How long one try may take.
    pub timeout: Micros,
    /// How long a job may wait for its turn.
    pub max_wait: Micros,
    /// How long a result is kept.
    pub result_ttl: Micros,
    /// How much of a result's body is kept.
    pub max_result_bytes: usize,
    /// The status when no job can be taken, 400 to 599.
    pub full_status: u16,
    /// Whether jobs of users that nobody verified are taken.
    pub allow_unverified: bool,
}

impl Strategy for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn apply(&self, denial: &Denial) -> Action {
        match (denial.relief, refuse(denial)) {
            (Relief::Reserved(wait), _) => Action::Enqueue(wait),
            (_, Action::Respond(refusal)) => Action::Respond(Refusal { status: self.full_status, ..refusal }),
            (_, other) => other,
        }
    }

    fn horizon(&self) -> Micros {
        self.max_wait
    }

    fn queue(&self) -> Option<&Queue> {
        Some(self)
    }
}
