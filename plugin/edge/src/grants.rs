//! Exceptions that code gives for a while, kept in this instance's memory. What they do to a request is the engine's;
//! their format is the admin API's; who may give them is the caller's to decide.

use tidegate_engine::address::{Cidr, parse_address};
use tidegate_engine::admin::grant::{Allowance, Grant, Target};
use tidegate_engine::policy::Rule;
use tidegate_engine::{Engine, Template, Timestamp};

/// More grants than this at once are refused: each is looked at for every request.
const MOST: usize = 1_000;

/// The exceptions that were given.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    list: Vec<Grant>,
}

impl Grants {
    /// Adds one that lifts rules from `now` to `until`, and forgets those that have ended. Empty texts are no target: of
    /// a user, an address, an endpoint and a rule, in this order, at least one is given.
    ///
    /// # Errors
    /// Says what is wrong, for a `TypeError`.
    pub(crate) fn give(
        &mut self,
        engine: &Engine,
        id: &str,
        [now, until]: [Timestamp; 2],
        targets: [&str; 4],
    ) -> Result<Engine, String> {
        let [user, ip, endpoint, rule] = targets.map(|text| (!text.is_empty()).then_some(text));
        self.list.retain(|grant| grant.expires_at > now);
        if self.list.len() >= MOST {
            return Err(format!("there are {MOST} overrides already"));
        }
        if [user, ip, endpoint, rule].iter().all(Option::is_none) {
            return Err("one of target_user_id, target_ip, target_endpoint and target_rule is needed".to_owned());
        }
        let rule = rule.filter(|rule| *rule != "*");
        if rule.is_some_and(|name| !engine.policy().rules.iter().any(|known| known.name == name)) {
            return Err("target_rule must be the name of a rule of this policy, or \"*\"".to_owned());
        }
        let address = ip.map(|ip| parse_address(ip.as_bytes()).ok_or("target_ip must be one address")).transpose()?;
        let target = Target {
            user: user.map(str::to_owned),
            // A prefix that is longer than the address is all of it.
            ip: address.map(|address| Cidr::new(address, 128)),
            endpoint: endpoint.map(Template::parse).transpose().map_err(|error| format!("target_endpoint: {error}"))?,
            rule: rule.map(str::to_owned),
        };
        self.list.push(Grant {
            id: id.to_owned(),
            admin: String::new(),
            target,
            reason: String::new(),
            note: String::new(),
            allowance: Allowance::Unlimited,
            created_at: now,
            expires_at: until,
        });
        Ok(engine.with_grants(&self.list))
    }

    /// Ends one before its time; `None` where there is none of that id any more.
    pub(crate) fn take_back(&mut self, engine: &Engine, id: &str, now: Timestamp) -> Option<Engine> {
        self.list.retain(|grant| grant.expires_at > now);
        let position = self.list.iter().position(|grant| grant.id == id)?;
        self.list.swap_remove(position);
        Some(engine.with_grants(&self.list))
    }

    /// Whether a rule is lifted for a key: there is no address and no path that a grant could be for.
    pub(crate) fn lift(&self, rule: &Rule, key: &str, now: Timestamp) -> bool {
        self.list.iter().any(|grant| {
            let Target { user, ip: None, endpoint: None, rule: name } = &grant.target else { return false };
            grant.expires_at > now
                && user.as_ref().is_none_or(|user| user == key)
                && name.as_ref().is_none_or(|name| *name == rule.name)
        })
    }
}
