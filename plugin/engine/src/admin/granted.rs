//! How grants act on a request: which are for it, and what becomes of each rule. Whether one has ended is asked of the
//! request's own moment, so that it ends at its second on every worker.

use core::net::IpAddr;

use super::grant::{Allowance, Grant};
use crate::identity::Identity;
use crate::path::Readings;
use crate::policy::Policy;
use crate::request::Request;
use crate::template::Template;
use crate::time::Timestamp;

/// The grants of an engine, prepared for its rules.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    prepared: Vec<Prepared>,
}

#[derive(Debug)]
struct Prepared {
    grant: Grant,
    rules: Rules,
    /// As it compares under the policy's `paths`.
    endpoint: Option<Template>,
}

/// Which rules a grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    All,
    One(usize),
    /// The rule is gone.
    None,
}

/// The grants that are for one request.
#[derive(Debug, Default)]
pub(crate) struct Applying<'g>(Vec<&'g Prepared>);

impl Granted {
    /// Prepares grants for a policy's rules.
    pub(crate) fn new(grants: &[Grant], policy: &Policy) -> Self {
        let prepare = |grant: &Grant| Prepared {
            rules: match &grant.target.rule {
                None => Rules::All,
                Some(name) => policy.index_of(name).map_or(Rules::None, Rules::One),
            },
            endpoint: grant
                .target
                .endpoint
                .as_ref()
                .map(|template| if policy.paths_are_loose { template.to_loose() } else { template.clone() }),
            grant: grant.clone(),
        };
        Self { prepared: grants.iter().map(prepare).collect() }
    }

    /// Whether any grant is for a range of addresses.
    pub(crate) fn look_at_addresses(&self) -> bool {
        self.prepared.iter().any(|prepared| prepared.grant.target.ip.is_some())
    }

    /// Every rule whose quota a grant multiplies, with the millionths, each pair once.
    pub(crate) fn multiplied(&self, rules: usize) -> Vec<(usize, u64)> {
        let mut pairs: Vec<(usize, u64)> = Vec::new();
        let mut add = |pair| match pairs.binary_search(&pair) {
            Ok(_) => {}
            Err(at) => pairs.insert(at, pair),
        };
        for prepared in &self.prepared {
            let Allowance::Times(ppm) = prepared.grant.allowance else { continue };
            match prepared.rules {
                Rules::All => (0..rules).for_each(|rule| add((rule, ppm))),
                Rules::One(rule) => add((rule, ppm)),
                Rules::None => {}
            }
        }
        pairs
    }

    /// The grants in force that are for this request. Only a verified user is one; an endpoint needs both readings.
    pub(crate) fn applying(
        &self,
        policy: &Policy,
        request: &Request<'_>,
        identity: &Identity,
        now: Timestamp,
    ) -> Applying<'_> {
        let mut readings = None;
        let fits = |prepared: &&Prepared| {
            prepared.grant.is_in_force(now)
                && prepared.grant.may_be_for(identity.verified_user(), identity.address)
                && prepared.endpoint.as_ref().is_none_or(|template| {
                    let readings = readings.get_or_insert_with(|| Readings::of(request.path(), policy.paths_are_loose));
                    !readings.has_fragment
                        && template.matches_normalised(&readings.normalised)
                        && template.matches_as_sent(&readings.as_sent)
                })
        };
        Applying(self.prepared.iter().filter(fits).collect())
    }

    /// The grants in force that are for a verified user or an address whatever is asked for: a grant for an endpoint is not.
    pub(crate) fn of_identity(&self, user: Option<&str>, address: Option<IpAddr>, now: Timestamp) -> Applying<'_> {
        let fits = |prepared: &&Prepared| {
            prepared.grant.is_in_force(now) && prepared.endpoint.is_none() && prepared.grant.may_be_for(user, address)
        };
        Applying(self.prepared.iter().filter(fits).collect())
    }
}

impl<'g> Applying<'g> {
    /// The grant that counts for a rule: the one that allows most.
    pub(crate) fn for_rule(&self, rule: usize) -> Option<&'g Grant> {
        let grants = self.of_rule(rule).map(|prepared| &prepared.grant);
        grants.max_by_key(|grant| match grant.allowance {
            Allowance::Unlimited => u64::MAX,
            Allowance::Times(ppm) => ppm,
        })
    }

    /// Whether a kill switch has a rule off.
    pub(crate) fn kill(&self, rule: usize) -> bool {
        self.of_rule(rule).any(|prepared| prepared.grant.is_kill_switch())
    }

    fn of_rule(&self, rule: usize) -> impl Iterator<Item = &'g Prepared> {
        self.0
            .iter()
            .copied()
            .filter(move |prepared| prepared.rules == Rules::All || prepared.rules == Rules::One(rule))
    }
}
