//! Warnings: what a policy may say and probably does not mean. Each says what to write instead; none changes anything.

mod cover;
mod letter;

use super::json::Node;
use super::mistake::{entry, member};
use super::shape::FOR_EDITORS;
use super::{Anonymous, Policy, Protocol, Rule, Scope, Store, Warning};
use crate::sorted::Sorted;
use crate::time::Micros;
use cover::{covers, shadowed};

/// Counters for longer windows are likely to be lost in a restart before the window ends.
const LONG_WINDOW: Micros = Micros::from_secs(3600);

/// The longest body that a gateway takes unless it is told otherwise, and what a job has beside its own: headers and terms.
const GATEWAYS_BODY: usize = 1_048_576;
const BESIDE_THE_BODY: usize = 65_536;

/// All warnings about a policy. `document` is the text it was built from, with the defaults filled in.
pub(super) fn warnings(policy: &Policy, document: &Node) -> Vec<Warning> {
    let nodes = document.get("rules").map(Node::entries).unwrap_or_default();
    let mut found = Warnings(Vec::new());
    found.about_the_document(policy);
    if FOR_EDITORS {
        letter::about_admins(&policy.admins, &mut found);
    }
    let mut seen = Sorted::default();
    for (index, (rule, node)) in policy.rules.iter().zip(nodes).enumerate() {
        let pointer = entry("/rules", index);
        found.about_the_quota(rule, node, &pointer, policy);
        found.about_the_match(rule, &pointer, policy);
        found.about_replacing(index, rule, &pointer, policy);
        if FOR_EDITORS {
            letter::about_rule(rule, &pointer, &mut found);
        }
        let strategy = node.get("strategy").or_else(|| document.get("defaults")?.get("strategy"));
        if let Some(text) = strategy.and_then(|strategy| about_throttle(rule, strategy)) {
            found.add(member_or(node, &pointer, "strategy"), text);
        }
        if FOR_EDITORS && let Some(text) = about_queue(rule, &policy.store) {
            found.add(member_or(node, &pointer, "strategy"), text);
        }
        match seen.get(&fingerprint(rule, node)) {
            Some(twin) => found.add(
                pointer,
                format!("the same as {}: a request would count twice; remove one", entry("/rules", *twin)),
            ),
            None => {
                seen.insert(fingerprint(rule, node), index);
            }
        }
    }
    found.0
}

struct Warnings(Vec<Warning>);

impl Warnings {
    fn add(&mut self, pointer: String, message: impl Into<String>) {
        self.0.push(Warning { pointer, message: message.into() });
    }

    fn about_the_document(&mut self, policy: &Policy) {
        if policy.rules.is_empty() {
            self.add("/rules".to_owned(), "no rule limits anything; add one");
        }
        if !policy.admins.user_ids.is_empty() && !policy.identity.has_verified_source() {
            self.add("/admins/user_ids".to_owned(), NEVER_VERIFIED);
        }
        if let Some((earlier, later)) = policy.identity.unverified_before_verified()
            && policy.rules.iter().any(|rule| rule.scope == Scope::PerUser || !rule.user_ids.is_empty())
        {
            let text = format!(
                "anybody can send this, and {} is then not looked at: a user whom rules name or count escapes them; write \
                 verified sources first",
                entry("/identity/user", later)
            );
            self.add(entry("/identity/user", earlier), text);
        }
        for (index, range) in policy.admins.ip_addresses.iter().enumerate() {
            if range.to_string().ends_with("/0") {
                let pointer = entry("/admins/ip_addresses", index);
                self.add(pointer, "holds every address of its kind, so that nobody is limited; write a longer prefix");
            }
        }
    }

    fn about_the_quota(&mut self, rule: &Rule, node: &Node, pointer: &str, policy: &Policy) {
        let algorithm = rule.algorithm.name();
        if node.get("burst").is_some() {
            let burst = member(pointer, "burst");
            if matches!(algorithm, "fixed_window" | "sliding_window") {
                self.add(burst, format!("has no effect on {algorithm}; remove it, or write token_bucket"));
            } else if algorithm == "leaky_bucket" && rule.quota.horizon == Micros::ZERO {
                let text = "has no effect here: on leaky_bucket it is the depth of the queue that throttle and queue \
                            use; remove it, or write one of these strategies or token_bucket";
                self.add(burst, text);
            }
        }
        if rule.cost == 0 {
            self.add(member(pointer, "cost"), "0 takes nothing, so that this rule never limits; write 1 or more");
        }
        if rule.window() > LONG_WINDOW && matches!(policy.store, Store::Local { .. }) {
            let text = "for your information: counters live in the proxy's memory and start afresh when it restarts, \
                        which matters more with a window longer than an hour";
            self.add(member(pointer, "window_seconds"), text);
        }
    }

    fn about_the_match(&mut self, rule: &Rule, pointer: &str, policy: &Policy) {
        let identity = &policy.identity;
        if !rule.user_ids.is_empty() && !identity.has_verified_source() {
            self.add(member(pointer, "user_ids"), NEVER_VERIFIED);
        }
        if rule.scope == Scope::PerUser && identity.user.is_empty() && identity.anonymous == Anonymous::Skip {
            let text = "never matches: there is no source of users and anonymous requests are skipped; add a source \
                        to /identity/user, or write \"anonymous\": \"per_ip\"";
            self.add(member(pointer, "scope"), text);
        }
        let acts = |rule: &Rule| rule.enabled && !rule.shadow && rule.cost > 0;
        let counts_made_up_users = rule.scope == Scope::PerUser
            && acts(rule)
            && rule.user_ids.is_empty()
            && identity.user.iter().any(|source| !source.is_verified());
        let guarded = |guard: &Rule| guard.scope == Scope::PerIp && acts(guard) && covers(guard, rule);
        if counts_made_up_users && !policy.rules.iter().any(guarded) {
            let text = "counts by ids that clients can make up, and each made-up id starts afresh; add a per_ip rule \
                        that matches the same requests, or use verified sources only";
            self.add(member(pointer, "scope"), text);
        }
        for (later, earlier) in shadowed(&rule.endpoints) {
            let place = entry(&member(pointer, "endpoints"), later);
            let by = entry(&member(pointer, "endpoints"), earlier);
            self.add(place, format!("{by} matches all of this first; move this one before it, or remove it"));
        }
    }

    fn about_replacing(&mut self, index: usize, rule: &Rule, pointer: &str, policy: &Policy) {
        if !rule.replaces.is_empty() && (rule.shadow || !rule.enabled) {
            let state = if rule.enabled { "in shadow" } else { "disabled" };
            self.add(member(pointer, "replaces"), format!("has no effect while this rule is {state}"));
        }
        let replaces_all = |other: &Rule| {
            let always_applies = other.scope != Scope::PerUser || policy.identity.anonymous != Anonymous::Skip;
            other.enabled && !other.shadow && always_applies && other.replaces.contains(&index) && covers(other, rule)
        };
        let is_itself_replaced = |position: usize| policy.rules.iter().any(|rule| rule.replaces.contains(&position));
        let by = policy.rules.iter().enumerate().find(|(at, other)| replaces_all(other) && !is_itself_replaced(*at));
        if let Some((by, _)) = by {
            let text = format!(
                "never applies: {} replaces it wherever it matches; remove one, or narrow the other",
                entry("/rules", by)
            );
            self.add(pointer.to_owned(), text);
        }
    }
}

const NEVER_VERIFIED: &str = "can never match, since no source of users is verified; add {\"metadata\": \
                              [\"envoy.filters.http.jwt_authn\", \"payload\", \"sub\"]} or a header with \"trust\": \
                              \"verified\" to /identity/user";

/// A fixed window releases all that it holds at once, at the next window's start. (It needs a throttle that waits for
/// it; from the document, since what a strategy may be told is its own business.)
fn about_throttle(rule: &Rule, strategy: &Node) -> Option<String> {
    let max_delay = Micros::from_millis(strategy.get("max_delay_ms")?.whole()?);
    let is_throttle = strategy.word("type")? == "throttle";
    (is_throttle && rule.algorithm.name() == "fixed_window" && max_delay < rule.window()).then(|| {
        "a fixed window admits nothing more before it ends, so that a delay shorter than the window helps only near \
         its end; write token_bucket, or a max_delay_ms of at least the window"
            .to_owned()
    })
}

/// A job, and its result, go to the store in one call, in which each three bytes are four.
fn about_queue(rule: &Rule, store: &Store) -> Option<String> {
    let queue = rule.strategy.queue()?;
    let longest = queue.max_body_bytes.max(queue.max_result_bytes);
    let needed = longest.div_ceil(3).saturating_mul(4).saturating_add(BESIDE_THE_BODY);
    let asks_a_gateway = matches!(store, Store::Redis(redis) if redis.protocol == Protocol::Upstash);
    (asks_a_gateway && needed > GATEWAYS_BODY).then(|| {
        format!(
            "a job or result of {longest} bytes is a call of up to {needed}, and the gateway takes {GATEWAYS_BODY} unless it is \
             told otherwise; start it with --max-body-bytes {needed}, or write less for max_body_bytes and max_result_bytes"
        )
    })
}

/// The pointer to a rule's own member, or to the one in the defaults that stands in for it.
fn member_or(node: &Node, pointer: &str, name: &str) -> String {
    member(if node.get(name).is_some() { pointer } else { "/defaults" }, name)
}

/// What two rules have in common if one of them is one too many.
fn fingerprint(rule: &Rule, node: &Node) -> String {
    let compared = ["endpoints", "methods", "user_ids", "ip_addresses", "cost", "enabled", "mode"];
    let parts = compared.iter().filter_map(|name| node.get(name)).map(Node::to_json);
    parts.fold(rule.tag.to_string(), |all, part| all + &part)
}

#[cfg(test)]
mod tests;
