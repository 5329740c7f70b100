//! Exceptions that code gives for a while, kept in this instance's memory: the rules they lift are still counted.
//! Their format is the admin API's; who may give them is the caller's to decide.

use tidegate_engine::address::parse_address;
use tidegate_engine::identity::Identity;
use tidegate_engine::policy::{Policy, Rule};
use tidegate_engine::{Readings, Template, Timestamp};

use core::net::IpAddr;

/// More grants than this at once are refused: each is looked at for every request.
const MOST: usize = 1_000;

/// The exceptions that are in force.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    list: Vec<Grant>,
}

#[derive(Debug)]
struct Grant {
    id: String,
    until: Timestamp,
    user: Option<String>,
    address: Option<IpAddr>,
    endpoint: Option<Template>,
    /// `None` lifts all rules.
    rule: Option<String>,
}

/// Who asks, as far as a grant can tell.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) path: Option<&'a [u8]>,
}

impl<'a> Asker<'a> {
    /// The one who sent a request.
    pub(crate) fn of(identity: &'a Identity, path: &'a [u8]) -> Self {
        Self { user: identity.verified_user(), address: identity.address, path: Some(path) }
    }
}

impl Grants {
    /// Whether none was given; those that have ended are forgotten.
    pub(crate) fn none_at(&mut self, now: Timestamp) -> bool {
        if !self.list.is_empty() {
            self.list.retain(|grant| grant.until > now);
        }
        self.list.is_empty()
    }

    /// Adds one. Empty texts are no target.
    ///
    /// # Errors
    /// Says what is wrong, for a `TypeError`.
    pub(crate) fn give(
        &mut self,
        policy: &Policy,
        id: &str,
        until: Timestamp,
        targets: [&str; 4],
    ) -> Result<(), String> {
        let [user, ip, endpoint, rule] = targets.map(|text| (!text.is_empty()).then_some(text));
        if self.list.len() >= MOST {
            return Err(format!("there are {MOST} overrides already"));
        }
        if [user, ip, endpoint, rule].iter().all(Option::is_none) {
            return Err("one of target_user_id, target_ip, target_endpoint and target_rule is needed".to_owned());
        }
        let address = ip.map(|ip| parse_address(ip.as_bytes()).ok_or("target_ip must be one address")).transpose()?;
        let endpoint =
            endpoint.map(Template::parse).transpose().map_err(|error| format!("target_endpoint: {error}"))?;
        let rule = rule.filter(|rule| *rule != "*");
        if let Some(name) = rule {
            let known = policy.rules.iter().find(|known| known.name == name);
            let known = known.ok_or_else(|| format!("target_rule: no rule is called {name:?}"))?;
            if !known.replaces.is_empty() {
                return Err(format!(
                    "target_rule: the rule {name:?} replaces others, which would stay switched off; lift them by \"*\" \
                     or change the policy"
                ));
            }
        }
        let rule = rule.map(str::to_owned);
        self.list.push(Grant { id: id.to_owned(), until, user: user.map(str::to_owned), address, endpoint, rule });
        Ok(())
    }

    /// Ends one before its time; false where there is none of that id.
    pub(crate) fn take_back(&mut self, id: &str) -> bool {
        let before = self.list.len();
        self.list.retain(|grant| grant.id != id);
        self.list.len() < before
    }

    /// Whether a grant lifts the rule for the one who asks. An endpoint must match in both readings: this loosens.
    pub(crate) fn lift(&self, rule: &Rule, asker: Asker<'_>, paths_are_loose: bool) -> bool {
        self.list.iter().any(|grant| {
            let endpoint_fits = |template: &Template| {
                let Some(path) = asker.path else { return false };
                let path = Readings::of(path, paths_are_loose);
                let template = if paths_are_loose { template.to_loose() } else { template.clone() };
                template.matches_as_sent(&path.as_sent) && template.matches_normalised(&path.normalised)
            };
            grant.rule.as_ref().is_none_or(|name| *name == rule.name)
                && grant.user.as_deref().is_none_or(|user| asker.user == Some(user))
                && grant.address.is_none_or(|address| asker.address == Some(address))
                && grant.endpoint.as_ref().is_none_or(endpoint_fits)
        })
    }
}
