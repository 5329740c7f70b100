//! `tidegate explain`: what a request would get and why. Against a file every counter is fresh; a running proxy looks
//! at its own.

mod live;

pub(super) use live::looked_at;

use serde_json::{Value, json};
use tidegate_engine::algorithm::Cell;
use tidegate_engine::described::Described;
use tidegate_engine::explain::explain;
use tidegate_engine::policy::Policy;
use tidegate_engine::{Engine, Timestamp};
use ureq::http::Method;

use super::rows::{print, text};
use crate::cli::{ExplainArgs, target::Chosen};
use crate::failure::{Answer, Failure};
use crate::policy_file::PolicyFile;
use crate::screen::{Align, Screen, Style, Table, visible};

/// With fresh counters every moment is like every other; this one is 2026-01-01T00:00:00Z.
const MOMENT: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

pub(super) fn run(args: &ExplainArgs, screen: Screen) -> Result<Answer, Failure> {
    match args.target.chosen()? {
        Chosen::File(path) => {
            let Some(policy) = PolicyFile::read(path)?.accepted() else { return Ok(Answer::No) };
            let value = in_file(args, policy);
            print(screen, &value, |value| shown(args, value, screen))?;
        }
        Chosen::Proxy(client) => {
            let body = body(args)?;
            let told = client.json(&Method::POST, "/v1/explain", Some(&body), &["rules"])?;
            let Some(value) = told else { return Ok(Answer::No) };
            print(screen, &value, |value| live::shown(args, value, screen))?;
        }
    }
    Ok(Answer::Yes)
}

/// The request as the admin API takes it.
fn body(args: &ExplainArgs) -> Result<Value, Failure> {
    let mut headers = serde_json::Map::new();
    for (name, value) in &args.headers {
        if headers.insert(name.clone(), json!(value)).is_some() {
            return Err(format!("--header {name}: a running proxy takes each header once").into());
        }
    }
    let mut body = json!({
        "method": args.method,
        "path": args.path,
        "headers": headers,
        "ip_address": args.ip.to_string(),
    });
    if let Some(user) = &args.user {
        body["user_id"] = json!(user);
    }
    Ok(body)
}

fn in_file(args: &ExplainArgs, policy: Policy) -> Value {
    let engine = Engine::new(policy);
    let described = Described {
        method: args.method.clone(),
        path: args.path.clone(),
        ip: args.ip.to_string(),
        user: args.user.clone(),
        headers: args.headers.clone(),
    };
    let explanation =
        described.as_request(&engine, |request| explain(&engine, request, MOMENT, |_, _| Cell::default()));
    explanation.to_json(engine.policy())
}

fn shown(args: &ExplainArgs, value: &Value, screen: Screen) -> String {
    let word = |name: &str| value.get(name).map_or_else(|| "-".to_owned(), text);
    let mut out = format!("request   {} {} from {}\n", visible(&args.method), visible(&args.path), args.ip);
    if value.get("path_as_sent") != value.get("path_normalised") {
        out.push_str(&format!(
            "path      {}, normalised {}\n",
            visible(&word("path_as_sent")),
            visible(&word("path_normalised"))
        ));
    }
    out.push_str(&format!("user      {}\n", visible(&user(args, value.get("user")))));
    let admin = if value.get("is_admin") == Some(&Value::Bool(true)) { ", an admin: never limited" } else { "" };
    out.push_str(&format!("address   {}{admin}\n", visible(&word("ip_address"))));
    let outcome = word("outcome");
    let style = if outcome == "limited" { Style::Red } else { Style::Green };
    let by = match value.get("deciding_rule").and_then(Value::as_str) {
        Some(rule) => format!(" by {rule}"),
        None => String::new(),
    };
    out.push_str(&format!("outcome   {}{}\n\n", screen.paint(style, &visible(&outcome)), visible(&by)));
    let mut table = Table::new(&[
        ("RULE", Align::Left),
        ("SAYS", Align::Left),
        ("LEFT", Align::Right),
        ("RATE", Align::Left),
        ("COUNTED FOR, OR WHY NOT", Align::Left),
        ("DIGEST", Align::Left),
    ]);
    for rule in super::rows::rows(value, "rules") {
        let word = |name: &str| rule.get(name).map(text).unwrap_or_default();
        if rule.get("applies") != Some(&Value::Bool(true)) {
            let row = [word("name"), "-".to_owned(), String::new(), String::new(), word("message"), String::new()];
            table.painted(row.map(|cell| (cell, Some(Style::Dim))));
            continue;
        }
        let rate = format!("{} in {} s, burst {}", word("rate"), word("window_seconds"), word("burst"));
        let cells = rule.get("cells").and_then(Value::as_array).cloned().unwrap_or_default();
        for (index, cell) in cells.iter().enumerate() {
            let word_of = |name: &str| cell.get(name).map(text).unwrap_or_default();
            let whom = match cell.get("value").and_then(Value::as_str) {
                Some("") | None => word_of("kind"),
                Some(whom) => format!("{} {whom}", word_of("kind")),
            };
            let is_ceiling = cell.get("is_ceiling") == Some(&Value::Bool(true));
            let whom = if is_ceiling { format!("{whom}, ceiling of {}", word_of("rate")) } else { whom };
            let row = if index == 0 {
                [word("name"), word("says"), word("remaining"), rate.clone(), whom, word_of("digest")]
            } else {
                [String::new(), String::new(), String::new(), String::new(), whom, word_of("digest")]
            };
            table.row(row);
        }
    }
    if !table.is_empty() {
        out.push_str(&table.text(screen));
    }
    out
}

fn user(args: &ExplainArgs, user: Option<&Value>) -> String {
    let Some(user) = user.filter(|user| !user.is_null()) else {
        let lost = if args.user.is_some() { ": the policy looks for users nowhere" } else { "" };
        return format!("none{lost}");
    };
    let id = user.get("id").and_then(Value::as_str);
    let id = id
        .map_or_else(|| format!("hidden, digest {}", user.get("digest").map(text).unwrap_or_default()), str::to_owned);
    let is_verified = user.get("verified") == Some(&Value::Bool(true));
    format!("{id}, {}", if is_verified { "verified" } else { "not verified" })
}
