//! `tidegate override`, `revoke` and `reset`: what an operator does to a running proxy for one client or rule.

use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::rows::{print, print_done, text, to_the_second};
use crate::cli::{OverrideArgs, ResetArgs, RevokeArgs};
use crate::failure::{Answer, Failure};
use crate::remote::{NOTHING, counter, encoded};
use crate::screen::{Screen, visible};

pub(super) fn grant(args: &OverrideArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("overrides")?;
    let given = client.json(&Method::POST, "/v1/overrides", Some(&body(args)), &["override_id", "expires_at"])?;
    let Some(value) = given else { return Ok(Answer::No) };
    print(screen, &value, |value| {
        let word = |name: &str| value.get(name).map_or_else(|| "-".to_owned(), text);
        format!("granted {} until {}\n", visible(&word("override_id")), visible(&to_the_second(&word("expires_at"))))
    })?;
    Ok(Answer::Yes)
}

fn body(args: &OverrideArgs) -> Value {
    let mut body = Map::new();
    let words = [
        ("admin_id", &args.admin),
        ("target_user_id", &args.user),
        ("target_ip", &args.ip),
        ("target_endpoint", &args.endpoint),
        ("target_rule", &args.rule),
        ("note", &args.note),
    ];
    for (name, word) in words {
        body.extend(word.as_ref().map(|word| (name.to_owned(), json!(word))));
    }
    body.insert("reason".to_owned(), json!(args.reason.as_str()));
    body.insert("duration_minutes".to_owned(), json!(args.duration));
    match args.multiplier {
        Some(factor) => body.insert("rate_multiplier".to_owned(), json!(factor)),
        None => body.insert("unlimited".to_owned(), json!(args.unlimited)),
    };
    Value::Object(body)
}

pub(super) fn revoke(args: &RevokeArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("overrides")?;
    let path = format!("/v1/overrides/{}", encoded(&args.id));
    let Some(value) = client.json(&Method::DELETE, &path, None, NOTHING)? else { return Ok(Answer::No) };
    print_done(screen, &value, &format!("revoked {}", args.id))?;
    Ok(Answer::Yes)
}

pub(super) fn reset(args: &ResetArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("metrics and counters")?;
    let rule = &args.rule;
    let (value, done) = if let Some(key) = &args.key {
        let path = counter(rule, key, args.kind.as_deref());
        (client.json(&Method::DELETE, &path, None, NOTHING)?, format!("cleared the counter of {key} for {rule}"))
    } else {
        let path = format!("/v1/metrics/{}/reset", encoded(rule));
        (client.json(&Method::POST, &path, None, &["rules"])?, format!("reset the metrics of {rule}"))
    };
    let Some(value) = value else { return Ok(Answer::No) };
    print_done(screen, &value, &done)?;
    Ok(Answer::Yes)
}
