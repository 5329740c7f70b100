//! An explanation as JSON: what the admin API answers and the command line shows. Identities that may be secrets appear
//! only as hashes.

use serde_json::{Value, json};

use super::{CellFinding, Explanation, Finding};
use crate::decision::Verdict;
use crate::identity::{Identity, Kind, Subject, User};
use crate::matching::Obstacle;
use crate::policy::{Policy, Rule};
use crate::strategy::Relief;
use crate::time::Micros;

impl Explanation {
    /// The explanation as JSON. `policy` is the one that it was made with.
    pub fn to_json(&self, policy: &Policy) -> Value {
        let rules = policy.rules.iter().zip(&self.rules);
        let rules: Vec<Value> = rules.map(|(rule, finding)| self.rule(policy, rule, finding)).collect();
        json!({
            "path_as_sent": String::from_utf8_lossy(&self.path_as_sent),
            "path_normalised": String::from_utf8_lossy(&self.path_normalised),
            "user": self.identity.user.as_ref().map(user),
            "ip_address": self.identity.address.map(|address| address.to_string()),
            "is_admin": self.is_admin,
            "outcome": self.decision.outcome(),
            "deciding_rule": self.decision.denial.as_ref().map(|denial| denial.rule.as_str()),
            "status": self.decision.response.as_ref().map(|response| response.status),
            "headers": self.decision.headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
                .collect::<serde_json::Map<String, Value>>(),
            "rules": rules,
        })
    }

    fn rule(&self, policy: &Policy, rule: &Rule, finding: &Finding) -> Value {
        match finding {
            Finding::DoesNotApply(obstacle) => json!({
                "name": rule.name,
                "applies": false,
                "reason": reason(*obstacle),
                "message": message(*obstacle, policy, rule, &self.identity),
            }),
            Finding::Applies { verdict, cells } => json!({
                "name": rule.name,
                "applies": true,
                "says": says(verdict, rule),
                "enforced": verdict.enforced,
                "limited": verdict.limited,
                "rate": rule.rate(),
                "burst": rule.quota.burst.get(),
                "window_seconds": rule.window().secs_ceil(),
                "remaining": verdict.remaining,
                "reset_after_ms": verdict.reset_after.millis_ceil(),
                "retry_after_ms": verdict.retry_after.millis_ceil(),
                "cells": cells.iter().map(cell).collect::<Vec<Value>>(),
            }),
        }
    }
}

fn user(user: &User) -> Value {
    json!({
        "id": (!user.may_be_secret).then_some(user.id.as_str()),
        "digest": hex(Subject::user(user).digest()),
        "verified": user.verified,
    })
}

fn cell(cell: &CellFinding) -> Value {
    // A subject does not say which source it came from; an unverified one may be a secret.
    let is_shown = cell.subject.kind != Kind::UnverifiedUser;
    json!({
        "kind": kind(cell.subject.kind),
        "value": is_shown.then(|| String::from_utf8_lossy(&cell.subject.value)),
        "digest": hex(cell.subject.digest()),
        "is_ceiling": cell.is_ceiling,
        "rate": cell.quota.rate.get(),
        "remaining": cell.reply.remaining,
        "wait_ms": (cell.reply.wait != Micros::FOREVER).then(|| cell.reply.wait.millis_ceil()),
    })
}

fn hex(digest: [u8; 16]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('?');
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::VerifiedUser => "verified_user",
        Kind::UnverifiedUser => "unverified_user",
        Kind::Address => "address",
        Kind::Template => "endpoint",
        Kind::Path => "path",
        Kind::Global => "global",
        Kind::Anonymous => "anonymous",
    }
}

fn says(verdict: &Verdict, rule: &Rule) -> &'static str {
    match (verdict.limited, verdict.enforced, verdict.relief) {
        (false, ..) => "allowed",
        (true, false, _) if rule.shadow => "limited, but in shadow",
        (true, false, _) => "limited, but an admin's",
        (true, true, Relief::BelowCeiling) => "degraded",
        (true, true, Relief::Reserved(_)) if rule.strategy.queue().is_some() => "queued",
        (true, true, Relief::Reserved(_)) => "delayed",
        (true, true, Relief::None) => "limited",
    }
}

fn reason(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Disabled => "disabled",
        Obstacle::Method => "method",
        Obstacle::UserId => "user_ids",
        Obstacle::Address => "ip_addresses",
        Obstacle::Endpoint => "endpoints",
        Obstacle::NoUser => "no_user",
        Obstacle::ReplacedBy(_) => "replaced",
    }
}

fn message(obstacle: Obstacle, policy: &Policy, rule: &Rule, identity: &Identity) -> String {
    match obstacle {
        Obstacle::Disabled => "the rule is disabled".to_owned(),
        Obstacle::Method => format!("the method is not {}", rule.methods.join(" or ")),
        Obstacle::UserId => match &identity.user {
            None => "the request has no user, and the rule is for some user_ids only",
            Some(user) if !user.verified => {
                "the user is not verified, and only a verified one matches the rule's user_ids"
            }
            Some(_) => "the user is none of the rule's user_ids",
        }
        .to_owned(),
        Obstacle::Address => match identity.address {
            None => "the address is unknown, and the rule is for some ip_addresses only",
            Some(_) => "the address is in none of the rule's ip_addresses",
        }
        .to_owned(),
        Obstacle::Endpoint => "the path fits none of the rule's endpoints".to_owned(),
        Obstacle::NoUser => "the request has no user, and anonymous requests are skipped".to_owned(),
        Obstacle::ReplacedBy(by) => {
            let by = policy.rules.get(by).map_or("?", |rule| rule.name.as_str());
            format!("{by} replaces it here")
        }
    }
}
