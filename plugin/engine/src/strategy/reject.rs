//! `hard` and `retry_after`: the two strategies that refuse at once and differ in what they tell the client.

use super::{Action, Body, Denial, Refusal, Strategy};

/// Refuses a limited request.
#[derive(Clone, Debug)]
pub struct Reject {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// What the body says.
    pub body: Body,
    /// Whether the client is told when to come back: `retry_after` says it, `hard` does not.
    pub says_when: bool,
}

impl Strategy for Reject {
    fn name(&self) -> &'static str {
        if self.says_when { "retry_after" } else { "hard" }
    }

    fn apply(&self, denial: &Denial) -> Action {
        Action::Respond(Refusal {
            status: self.status,
            body: self.body.clone(),
            retry_after: self.says_when.then_some(denial.retry_after),
        })
    }
}
