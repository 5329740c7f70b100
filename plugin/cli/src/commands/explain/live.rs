//! What a running proxy's `explain` and `counters` say, as a table: whom each rule counts for, what is left, and what lifts
//! the rule.

use serde_json::Value;

use super::super::rows::{rows, text};
use crate::cli::ExplainArgs;
use crate::screen::{Align, Screen, Style, Table, visible};

pub(super) fn shown(args: &ExplainArgs, value: &Value, screen: Screen) -> String {
    let mut out = format!("request   {} {} from {}\n", visible(&args.method), visible(&args.path), args.ip);
    if let Some(user) = &args.user {
        out.push_str(&format!("user      {}, verified\n", visible(user)));
    }
    format!("{out}\n{}", looked_at(value, screen))
}

/// The counters that were looked at, and the rules that do not apply.
pub(in super::super) fn looked_at(value: &Value, screen: Screen) -> String {
    let mut table = Table::new(&[
        ("RULE", Align::Left),
        ("LEFT", Align::Right),
        ("RATE", Align::Left),
        ("FULL AGAIN IN", Align::Left),
        ("COUNTED FOR, OR WHY NOT", Align::Left),
    ]);
    let is_admin = is_true(value, "is_admin");
    for rule in rows(value, "rules") {
        let word = |name: &str| rule.get(name).map(text).unwrap_or_default();
        if rule.get("applies") != Some(&Value::Bool(true)) {
            let row = [word("rule"), String::new(), String::new(), String::new(), word("why_not")];
            table.painted(row.map(|cell| (cell, Some(Style::Dim))));
            continue;
        }
        let key = |name: &str| rule.get("key").and_then(|key| key.get(name)).map(text).unwrap_or_default();
        let whom = format!("{} {}", key("kind"), key("value"));
        let lifted = lifted(&rule, is_admin).map_or_else(String::new, |why| format!(" ({why})"));
        counter(&mut table, &word("rule"), &rule, &word("window_seconds"), &format!("{}{lifted}", whom.trim_end()));
        if let Some(ceiling) = rule.get("ceiling") {
            counter(&mut table, "", ceiling, &word("window_seconds"), "its ceiling");
        }
    }
    let admin = if is_admin { "an admin: never limited\n\n" } else { "" };
    let table = if table.is_empty() { "no rules\n".to_owned() } else { table.text(screen) };
    format!("{admin}{table}")
}

fn counter(table: &mut Table, name: &str, counter: &Value, window: &str, whom: &str) {
    let word = |name: &str| counter.get(name).map(text).unwrap_or_default();
    let left = word("remaining");
    let style = (left == "0").then_some(Style::Red);
    table.painted([
        (name.to_owned(), None),
        (left, style),
        (format!("{} in {window} s", word("limit")), None),
        (format!("{} s", word("reset_after_seconds")), None),
        (whom.to_owned(), None),
    ]);
}

/// What keeps a rule that applies from acting as it is written; of an admin the first line says so.
fn lifted(rule: &Value, is_admin: bool) -> Option<String> {
    if is_true(rule, "killed") {
        return Some("switched off".to_owned());
    }
    if let Some(grant) = rule.get("granted").filter(|grant| grant.is_object()) {
        let id = grant.get("override_id").map(text).unwrap_or_default();
        return Some(match grant.get("rate_multiplier") {
            Some(factor) => format!("{} times the rate by {id}", text(factor)),
            None => format!("no limit by {id}"),
        });
    }
    (rule.get("enforced") == Some(&Value::Bool(false)) && !is_admin).then(|| "in shadow".to_owned())
}

fn is_true(value: &Value, name: &str) -> bool {
    value.get(name) == Some(&Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_admin_is_told_once() {
        let rule = json!({"rule": "a", "applies": true, "enforced": false, "key": {"kind": "global", "value": ""},
            "limit": 9, "window_seconds": 1, "remaining": 9, "reset_after_seconds": 0});
        let table =
            "RULE  LEFT  RATE      FULL AGAIN IN  COUNTED FOR, OR WHY NOT\na        9  9 in 1 s  0 s            global";
        let shown = |is_admin: bool| looked_at(&json!({"is_admin": is_admin, "rules": [rule]}), Screen::plain());
        assert_eq!(shown(true), format!("an admin: never limited\n\n{table}\n"));
        assert_eq!(shown(false), format!("{table} (in shadow)\n"));
    }
}
