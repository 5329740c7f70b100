//! What would happen to a described request, and what one client's counter holds: asked of the store at a cost of 0, which
//! charges nothing.

use core::net::IpAddr;

use super::call::Place;
use super::grant::Allowance;
use super::{grant, number, numbers, object, text};
use crate::acquire::{Acquire, CellReply, CellRequest, Reply};
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
    engine: Engine,
    /// What is asked: for each rule that applies the cell that decides, then its ceiling if it has one.
    pub acquire: Acquire,
    /// The index of each cell's rule.
    pub rules: Vec<usize>,
    is_admin: bool,
    /// The rules that apply.
    applying: Vec<Applies>,
    /// The rules that do not, with the reason.
    others: Vec<(usize, String)>,
}

/// A rule that applies, for whom, and what is out of the ordinary about it.
#[derive(Debug)]
pub(crate) struct Applies {
    /// The rule's index.
    pub(crate) rule: usize,
    /// Whom it counts.
    pub(crate) subject: Subject,
    /// Its verdict counts, if no grant lifts it: the rule is not in shadow and the client is no admin.
    pub(crate) counts: bool,
    /// What the grant that counts for it allows.
    pub(crate) allowance: Option<Allowance>,
    /// That grant, as the API shows it.
    pub(crate) granted: Option<Node>,
    /// A kill switch has it off.
    pub(crate) is_killed: bool,
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
        let found = self.examine(&request, &identity, now, |rule, obstacle| others.push((rule, self.why(obstacle))));
        let mut applying = Vec::with_capacity(found.len());
        for applies in found {
            // For want of an address nobody's counter is shown: whose it is was not told.
            if applies.subject.kind == Kind::Address && identity.address.is_none() {
                others.push((applies.rule, "it counts by address, and no ip_address is given".to_owned()));
            } else {
                applying.push(applies);
            }
        }
        let is_admin = self.is_admin(identity.verified_user(), identity.address);
        Ok(self.look(applying, others, is_admin, false, now))
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
        let (subject, address) = self.subject(rule, place)?;
        let user = (subject.kind == Kind::VerifiedUser).then_some(place.key.as_str());
        let applying = vec![self.stands((index, subject), user, address, now)];
        Ok(self.look(applying, Vec::new(), self.is_admin(user, address), true, now))
    }

    fn look(
        &self,
        applying: Vec<Applies>,
        others: Vec<(usize, String)>,
        is_admin: bool,
        every: bool,
        now: Timestamp,
    ) -> Look {
        let (acquire, rules) = self.cells_of(&applying, every, now);
        Look { engine: self.clone(), acquire, rules, is_admin, applying, others }
    }

    /// Whom a call names; and the address, where it is one.
    fn subject(&self, rule: &Rule, place: &Place) -> Result<(Subject, Option<IpAddr>), Mistakes> {
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
        let mut address = None;
        let subject = match (rule.scope, kind) {
            (Scope::Global, "global") => Subject::only(Kind::Global),
            (Scope::PerUser, "user") => Subject { kind: Kind::VerifiedUser, value: value() },
            (Scope::PerUser, "unverified") => {
                let digest = digest_of(&place.key).ok_or_else(|| {
                    let allowed =
                        "sha256: and 32 hexadecimal digits, as metrics show it: paths stand in logs, the value must not";
                    Mistake::new("/key", "another key", allowed)
                })?;
                Subject::unverified(digest)
            }
            (Scope::PerUser, "anonymous") => Subject::only(Kind::Anonymous),
            (Scope::PerUser | Scope::PerIp, "ip") => {
                address = grant::address_of(place.key.split('/').next())?;
                Subject::address(address, &self.policy().identity)
            }
            (Scope::PerEndpoint, "endpoint") => {
                let is_template = rule.endpoints.iter().any(|template| template.as_str() == place.key);
                Subject { kind: if is_template { Kind::Template } else { Kind::Path }, value: value() }
            }
            _ => {
                let allowed = "user, unverified, anonymous, ip, endpoint or global, as the rule's scope has it";
                return Err(Mistake::new("/kind", quoted(kind), allowed).into());
            }
        };
        Ok((subject, address))
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
}

impl Look {
    /// What was looked at, as the API shows it.
    pub fn shown(&self, reply: &Reply) -> Node {
        let rule_of = |index: usize| self.engine.policy().rules.get(index);
        let mut shown = Vec::new();
        let mut cells = self.acquire.cells.iter().zip(&reply.cells);
        for applies in &self.applying {
            let (Some(rule), Some((cell, left))) = (rule_of(applies.rule), cells.next()) else { continue };
            let is_lifted = applies.allowance == Some(Allowance::Unlimited);
            let mut members = standing(cell, left);
            let mut show = |name: &str, value: Node| members.push((name.to_owned(), value));
            show("rule", text(&rule.name));
            show("applies", Node::Boolean(true));
            show("enforced", Node::Boolean(applies.counts && !is_lifted));
            show("killed", Node::Boolean(applies.is_killed));
            show("key", key(&applies.subject));
            show("window_seconds", number(rule.window().secs_ceil()));
            if let Some((cell, left)) = rule.strategy.ceiling_ppm().and_then(|_| cells.next()) {
                show("ceiling", Node::Object(standing(cell, left)));
            }
            if let Some(granted) = &applies.granted {
                show("granted", granted.clone());
            }
            shown.push(Node::Object(members));
        }
        for (index, why) in &self.others {
            let Some(rule) = rule_of(*index) else { continue };
            shown.push(object(&mut [
                ("rule", text(&rule.name)),
                ("applies", Node::Boolean(false)),
                ("why_not", text(why)),
            ]));
        }
        object(&mut [("is_admin", Node::Boolean(self.is_admin)), ("rules", Node::List(shown))])
    }
}

/// What stands before the digest of an identity that may be a secret.
const DIGEST: &str = "sha256:";

/// The digest that a key is.
fn digest_of(key: &str) -> Option<[u8; 16]> {
    let mut digest = [0; 16];
    super::read_hex(key.strip_prefix(DIGEST)?, &mut digest).then_some(digest)
}

/// What a cell admits and how it stands.
fn standing(cell: &CellRequest, left: &CellReply) -> Vec<(String, Node)> {
    numbers(&[
        ("limit", cell.quota.rate.get()),
        ("remaining", left.remaining),
        ("reset_after_seconds", left.reset_after.secs_ceil()),
    ])
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
        [DIGEST, &super::hex(&subject.digest())].concat()
    } else {
        String::from_utf8_lossy(&subject.value).into_owned()
    };
    object(&mut [("kind", text(kind)), ("value", Node::Text(value))])
}
