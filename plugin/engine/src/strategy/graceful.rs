//! `graceful`: serves a limited request in a reduced form, up to a ceiling. Above it, it refuses.

use super::{Action, Body, Denial, Relief, Strategy, refuse};

/// Serves limited requests in a reduced form.
#[derive(Clone, Debug)]
pub struct Graceful {
    /// The reduced form.
    pub reduced: Reduced,
    /// How many millionths of the rate requests of either form may make, more than 1,000,000.
    pub ceiling_ppm: u64,
}

/// A reduced form of service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reduced {
    /// The upstream gives it: the request goes on changed.
    Forward {
        /// Headers to set, names in lower case; the one that the route takes its cluster from is among them.
        headers: Vec<(String, String)>,
        /// The path to ask for instead.
        path: Option<String>,
    },
    /// Tidegate gives it.
    Respond {
        /// The HTTP status, 200 to 599.
        status: u16,
        /// Headers to send, names in lower case.
        headers: Vec<(String, String)>,
        /// The body; [`Body::Problem`] stands for none.
        body: Body,
    },
}

impl Strategy for Graceful {
    fn name(&self) -> &'static str {
        "graceful"
    }

    fn apply(&self, denial: &Denial) -> Action {
        match denial.relief {
            Relief::BelowCeiling => Action::Degrade(self.reduced.clone()),
            Relief::None | Relief::Reserved(_) => refuse(denial),
        }
    }

    fn ceiling_ppm(&self) -> Option<u64> {
        Some(self.ceiling_ppm)
    }

    fn request_headers(&self) -> Vec<&str> {
        match &self.reduced {
            Reduced::Forward { headers, .. } => headers.iter().map(|(name, _)| name.as_str()).collect(),
            Reduced::Respond { .. } => Vec::new(),
        }
    }
}
