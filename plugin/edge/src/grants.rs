//! Exceptions that code gives for a while, kept in this instance's memory. What they do to a request is the engine's;
//! their format is the admin API's, read by JavaScript: the engine's own reader would add 6 KB to every upload. Who may
//! give them is the caller's to decide.

use tidegate_engine::address::{Cidr, parse_address};
use tidegate_engine::admin::grant::{Allowance, Grant, Target};
use tidegate_engine::{Engine, Template, Timestamp};

/// More grants than this at once are refused: each is looked at for every request.
const MOST: usize = 1_000;

/// The exceptions that were given.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    list: Vec<Grant>,
}

/// What one is made from. Empty texts are no target: of a user, an address or range, an endpoint and a rule, in this
/// order, at least one is given.
pub(crate) struct Given<'a> {
    pub(crate) id: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) targets: [&'a str; 4],
    /// So many millionths of the quota; 0 lifts the rules.
    pub(crate) millionths: u64,
}

impl Grants {
    /// Adds one, and forgets those that have ended.
    ///
    /// # Errors
    /// Says what is wrong, for a `TypeError`.
    pub(crate) fn give(&mut self, engine: &Engine, given: &Given<'_>) -> Result<Engine, String> {
        self.list.retain(|grant| grant.is_in_force(given.now));
        if self.list.len() >= MOST {
            return Err("there are 1000 overrides already".to_owned());
        }
        self.list.push(Grant {
            id: given.id.to_owned(),
            admin: String::new(),
            target: target(engine, given.targets)?,
            reason: String::new(),
            note: String::new(),
            allowance: if given.millionths == 0 { Allowance::Unlimited } else { Allowance::Times(given.millionths) },
            created_at: given.now,
            expires_at: given.until,
        });
        Ok(engine.with_grants(&self.list))
    }

    /// Ends one before its time; `None` where there is none of that id any more.
    pub(crate) fn take_back(&mut self, engine: &Engine, id: &str, now: Timestamp) -> Option<Engine> {
        self.list.retain(|grant| grant.is_in_force(now));
        let position = self.list.iter().position(|grant| grant.id == id)?;
        self.list.swap_remove(position);
        Some(engine.with_grants(&self.list))
    }
}

fn target(engine: &Engine, targets: [&str; 4]) -> Result<Target, String> {
    let [user, ip, endpoint, rule] = targets.map(|text| (!text.is_empty()).then_some(text));
    if [user, ip, endpoint, rule].iter().all(Option::is_none) {
        return Err("one of target_user_id, target_ip, target_endpoint and target_rule is needed".to_owned());
    }
    let rule = rule.filter(|rule| *rule != "*");
    if rule.is_some_and(|name| engine.policy().rule(name).is_none()) {
        return Err("target_rule must be the name of a rule of this policy, or \"*\"".to_owned());
    }
    let address = ip.map(|ip| parse_address(ip.as_bytes()).ok_or("target_ip must be one address")).transpose()?;
    Ok(Target {
        user: user.map(str::to_owned),
        // A prefix that is longer than the address is all of it.
        ip: address.map(|address| Cidr::new(address, 128)),
        endpoint: endpoint.map(Template::parse).transpose().map_err(|error| format!("target_endpoint: {error}"))?,
        rule: rule.map(str::to_owned),
    })
}
