//! What operators look at: which rules a described request meets and why not the others, and the cells that count
//! somebody. What is shown of them is `admin::explain`'s.

use core::net::IpAddr;

use super::{Asked, Counted, Engine};
use crate::acquire::Acquire;
use crate::admin::explain::Applies;
use crate::admin::grant::{Allowance, Grant};
use crate::admin::granted::Applying;
use crate::identity::{Identity, Subject};
use crate::matching::{Match, Obstacle};
use crate::request::Request;
use crate::time::Timestamp;

impl Engine {
    /// The index of each rule that does not apply to a request, with the first of its conditions that is not met.
    pub(crate) fn obstacles(
        &self,
        request: &Request<'_>,
        identity: &Identity,
        now: Timestamp,
    ) -> Vec<(usize, Obstacle)> {
        let mut found = Vec::new();
        self.examine(request, identity, now, |rule, obstacle| found.push((rule, obstacle)));
        found
    }

    /// The rules that apply to a described request; `why_not` is told what keeps off each other one.
    pub(crate) fn examine(
        &self,
        request: &Request<'_>,
        identity: &Identity,
        now: Timestamp,
        why_not: impl FnMut(usize, Obstacle),
    ) -> Vec<Applies> {
        let granted = self.lifted.granted.applying(self.policy(), request, identity, now);
        let found = self.parts.matcher.examine(self.policy(), request, identity, &granted, why_not);
        let is_admin = self.is_admin(identity.verified_user(), identity.address);
        found.into_iter().map(|Match { rule, subject }| self.applies(rule, subject, is_admin, &granted)).collect()
    }

    /// How a rule stands to a verified user or an address, of whose requests nothing else is known.
    pub(crate) fn stands(
        &self,
        (rule, subject): (usize, Subject),
        user: Option<&str>,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Applies {
        let granted = self.lifted.granted.of_identity(user, address, now);
        self.applies(rule, subject, self.is_admin(user, address), &granted)
    }

    /// Whether a verified user or an address is an admin's.
    pub fn is_admin(&self, user: Option<&str>, address: Option<IpAddr>) -> bool {
        let admins = &self.policy().admins;
        user.is_some_and(|user| admins.user_ids.iter().any(|admin| admin == user))
            || address.is_some_and(|address| admins.ip_addresses.iter().any(|range| range.contains(address)))
    }

    fn applies(&self, rule: usize, subject: Subject, is_admin: bool, granted: &Applying<'_>) -> Applies {
        let counts = !is_admin && self.policy().rules.get(rule).is_some_and(|rule| !rule.shadow);
        let grant = granted.for_rule(rule).filter(|_| counts);
        Applies {
            rule,
            subject,
            counts,
            allowance: grant.map(|grant| grant.allowance),
            granted: grant.map(Grant::in_short),
            is_killed: granted.kill(rule),
        }
    }

    /// Asks for the cells of rules, charging nothing: those that decide, first the rule's own, then its ceiling; and where
    /// `every` says so all others behind them that count the same subject under some grant. With the index of each cell's
    /// rule.
    pub(crate) fn cells_of(&self, applying: &[Applies], every: bool, now: Timestamp) -> (Acquire, Vec<usize>) {
        let mut asked = Asked::default();
        let mut rules = Vec::new();
        for applies in applying {
            let Some(own) = self.parts.counted.get(applies.rule) else { continue };
            let deciding = match applies.allowance {
                Some(Allowance::Times(ppm)) => self.enlarged(applies.rule, ppm).unwrap_or(own),
                _ => own,
            };
            let subject = asked.subject(applies.subject.clone());
            let mut ask = |counted: &Counted| {
                for limit in counted.limits() {
                    asked.cells.push(self.cell(subject, &limit, 0, false, false));
                    rules.push(applies.rule);
                }
            };
            ask(deciding);
            if every && deciding.own.id != own.own.id {
                ask(own);
            }
            for ((rule, _), other) in &self.lifted.enlarged {
                if every && *rule == applies.rule && other.own.id != deciding.own.id {
                    ask(other);
                }
            }
        }
        (Acquire { now, subjects: asked.subjects, cells: asked.cells }, rules)
    }
}
