//! The pages that tickets have: of this proxy's jobs at once, of a fleet's when its store has said how far they are.

use tidegate_engine::admin::answer::problem;
use tidegate_engine::{Header, Micros, Response, Timestamp};

use super::{Exchange, State};
use crate::abi::AfterHeaders;
use crate::host;
use crate::jobs::record::Progress;
use crate::jobs::{Ticket, Told, answer};
use crate::root::Deployment;

impl Exchange {
    /// Answers a request for a ticket's page, or asks the store; `None` for any other request. Only the byte-exact path is
    /// one; without a rule that queues, or one that ever did, it is a path like any other.
    pub(super) fn ticket_page(&mut self, lines: &[Header<'_>]) -> Option<AfterHeaders> {
        let deployment = &self.deployment;
        let pseudo = |wanted: &[u8]| lines.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        if !deployment.jobs.have_pages() || !matches!(pseudo(b":method")?, b"GET" | b"HEAD") {
            return None;
        }
        let text = pseudo(b":path")?.strip_prefix(deployment.ticket_path().as_bytes())?;
        let ticket = core::str::from_utf8(text).unwrap_or_default();
        let fleet = deployment.fleet.as_ref().filter(|_| deployment.jobs.are_stored() && is_of_fleet(ticket));
        let page = match fleet {
            Some(fleet) if deployment.jobs.look(fleet, self.id, ticket) => {
                self.state = State::Paging;
                return Some(AfterHeaders::Stop);
            }
            Some(_) => no_answer(),
            None => {
                let job = Ticket::parse(ticket).and_then(|ticket| deployment.jobs.look_up(ticket));
                let job = job.as_ref().map(|job| (job.rule.as_str(), job.attempts, &job.progress));
                deployment.page(job, host::steady())
            }
        };
        Some(self.respond(&page, "ticket"))
    }

    /// Answers with what the store has told.
    pub(super) fn page_told(&mut self, told: &Told, now: Timestamp) {
        let page = match told {
            Told::Seen(None) => self.deployment.page(None, now),
            Told::Seen(Some(seen)) => {
                let progress = answer::progress(seen, now);
                self.deployment.page(Some((&seen.rule, seen.attempts, &progress)), now)
            }
            Told::Stored(_) | Told::Full | Told::TooLarge | Told::Nothing => no_answer(),
        };
        self.respond(&page, "ticket");
    }
}

impl Deployment {
    /// The path that every ticket's page starts with.
    pub(super) fn ticket_path(&self) -> String {
        format!("{}/v1/queue/", self.engine().policy().admin_api.path)
    }

    fn page(&self, job: Option<(&str, u32, &Progress)>, now: Timestamp) -> Response {
        let engine = self.engine();
        let rule = job.and_then(|(name, ..)| engine.policy().rule(name));
        let interval = rule.and_then(|rule| rule.quota.window.0.checked_div(rule.rate()));
        answer::outcome(job, interval.map(Micros), now)
    }
}

/// Whether this is the ticket of a job in the store: 32 hexadecimal digits. This proxy's own name their slot as well.
fn is_of_fleet(ticket: &str) -> bool {
    ticket.len() == 32 && ticket.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn no_answer() -> Response {
    let mut response = problem(503, "The store does not answer, or too many tickets are looked up at once.");
    response.headers.push(("retry-after".into(), "1".into()));
    response
}
