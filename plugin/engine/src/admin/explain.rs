//! What would happen to a described request, and what one client's counter holds: asked of the store at a cost of 0, which
//! charges nothing.

use super::call::Place;
use super::{grant, number, object, text};
use crate::acquire::{Acquire, Reply};
use crate::catalogue::Catalogue;
use crate::engine::Engine;
use crate::identity::{Identity, Kind, Subject, User};
use crate::matching::Obstacle;
use crate::policy::mistake::{Mistake, Mistakes, quoted};
use crate::policy::{Node, Rule, Scope, body};
use crate::request::Request;
use crate::time::Timestamp;

/// A look at counters that waits for the store's answer.
#[derive(Debug)]
pub struct Look {
    /// What is asked.
    pub acquire: Acquire,
    /// The index of each cell's rule.
    pub rules: Vec<usize>,
    /// The rules that do not apply, with the reason.
    others: Vec<(usize, String)>,
}

impl Engine {
    /// Reads what `POST /v1/explain` was sent.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn explain(&self, sent: &[u8], catalogue: &Catalogue, now: Timestamp) -> Result<Look, Mistakes> {
        let node = body::read(sent, &body::EXPLAIN, catalogue)?;
        let address = grant::address_of(node.word("ip_address"))?;
        let lower: Vec<(String, &str)> = node
            .get("headers")
            .map(Node::members)
            .unwrap_or_default()
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.text().unwrap_or_default()))
            .collect();
        let mut headers: Vec<(&[u8], &[u8])> = vec![
            (b":method", node.word("method").unwrap_or("GET").as_bytes()),
            (b":path", node.word("path").unwrap_or("/").as_bytes()),
        ];
        headers.extend(lower.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        let peer = address.map(|address| address.to_string()).unwrap_or_default();
        let request = Request { headers: &headers, peer: peer.as_bytes(), metadata: &[] };
        let mut identity = Identity::of(&request, &self.policy().identity);
        if let Some(id) = node.word("user_id") {
            identity.user = Some(User { id: id.to_owned(), verified: true, may_be_secret: false });
        }
        let mut others = Vec::new();
        let matches = self.examine(&request, &identity, now, |rule, obstacle| others.push((rule, self.why(obstacle))));
        let cells = matches.into_iter().map(|found| (found.rule, found.subject)).collect();
        Ok(self.look(cells, others, now))
    }

    /// The counter that a call names.
    ///
    /// # Errors
    /// There is no such rule, or the key is none of its.
    pub fn counter(&self, place: &Place, now: Timestamp) -> Result<Look, Mistakes> {
        let policy = self.policy();
        let Some((index, rule)) = policy.rules.iter().enumerate().find(|(_, rule)| rule.name == place.rule) else {
            let mistake = Mistake::new("/rule", quoted(&place.rule), "the name of a rule of this policy");
            let names = policy.rules.iter().map(|rule| rule.name.as_str());
            return Err(mistake.suggesting(&place.rule, names).into());
        };
        let subject = self.subject(rule, place)?;
        Ok(self.look(vec![(index, subject)], Vec::new(), now))
    }

    fn subject(&self, rule: &Rule, place: &Place) -> Result<Subject, Mistakes> {
        let default = match rule.scope {
            Scope::Global => "global",
            Scope::PerUser => "user",
            Scope::PerIp => "ip",
            Scope::PerEndpoint => "endpoint",
        };
        let value = || place.key.clone().into_bytes();
        let kind = place.kind.as_deref().unwrap_or(default);
        if place.key.is_empty() && !matches!(kind, "global" | "anonymous") {
            return Err(Mistake::new("/key", "no key", "the user, address or endpoint that the rule counts by").into());
        }
        Ok(match (rule.scope, kind) {
            (Scope::Global, "global") => Subject::only(Kind::Global),
            (Scope::PerUser, "user") => Subject { kind: Kind::VerifiedUser, value: value() },
            (Scope::PerUser, "unverified") => Subject { kind: Kind::UnverifiedUser, value: value() },
            (Scope::PerUser, "anonymous") => Subject::only(Kind::Anonymous),
            (Scope::PerUser | Scope::PerIp, "ip") => {
                let address = place.key.split('/').next();
                Subject::address(grant::address_of(address)?, &self.policy().identity)
            }
            (Scope::PerEndpoint, "endpoint") => {
                let is_template = rule.endpoints.iter().any(|template| template.as_str() == place.key);
                Subject { kind: if is_template { Kind::Template } else { Kind::Path }, value: value() }
            }
            _ => {
                let allowed = "user, unverified, anonymous, ip, endpoint or global, as the rule's scope has it";
                return Err(Mistake::new("/kind", quoted(kind), allowed).into());
            }
        })
    }

    fn why(&self, obstacle: Obstacle) -> String {
        match obstacle {
            Obstacle::Disabled => "it is disabled".to_owned(),
            Obstacle::Method => "the method is none of its".to_owned(),
            Obstacle::UserId => "there is no verified user that is one of its".to_owned(),
            Obstacle::Address => "the address is in none of its ranges".to_owned(),
            Obstacle::Endpoint => "the path fits none of its endpoints".to_owned(),
            Obstacle::NoUser => "there is no user".to_owned(),
            Obstacle::ReplacedBy(by) => {
                let name = self.policy().rules.get(by).map(|rule| rule.name.as_str()).unwrap_or_default();
                format!("the rule \"{name}\" replaces it")
            }
        }
    }

    /// What was looked at, as the API shows it.
    pub fn shown(&self, look: &Look, reply: &Reply) -> Node {
        let rule_of = |index: usize| self.policy().rules.get(index);
        let mut shown = Vec::new();
        for ((index, cell), reply) in look.rules.iter().zip(&look.acquire.cells).zip(&reply.cells) {
            let (Some(rule), Some(subject)) = (rule_of(*index), look.acquire.subjects.get(cell.subject)) else {
                continue;
            };
            shown.push(object(&mut [
                ("rule", text(&rule.name)),
                ("applies", Node::Boolean(true)),
                ("enforced", Node::Boolean(!rule.shadow)),
                ("key", key(subject)),
                ("limit", number(rule.rate())),
                ("window_seconds", number(rule.window().secs_ceil())),
                ("remaining", number(reply.remaining)),
                ("reset_after_seconds", number(reply.reset_after.secs_ceil())),
            ]));
        }
        for (index, why) in &look.others {
            let Some(rule) = rule_of(*index) else { continue };
            shown.push(object(&mut [
                ("rule", text(&rule.name)),
                ("applies", Node::Boolean(false)),
                ("why_not", text(why)),
            ]));
        }
        object(&mut [("rules", Node::List(shown))])
    }
}

impl Look {
    pub(crate) fn new(acquire: Acquire, rules: Vec<usize>, others: Vec<(usize, String)>) -> Self {
        Self { acquire, rules, others }
    }
}

/// Whom a rule counts for. An unverified user may be a secret: only its hash is shown.
pub fn key(subject: &Subject) -> Node {
    let kind = match subject.kind {
        Kind::VerifiedUser => "user",
        Kind::UnverifiedUser => "unverified",
        Kind::Address => "ip",
        Kind::Template | Kind::Path => "endpoint",
        Kind::Global => "global",
        Kind::Anonymous => "anonymous",
    };
    let value = if subject.kind == Kind::UnverifiedUser {
        super::hex(&subject.digest())
    } else {
        String::from_utf8_lossy(&subject.value).into_owned()
    };
    object(&mut [("kind", text(kind)), ("value", Node::Text(value))])
}
