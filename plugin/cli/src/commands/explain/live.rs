//! What a running proxy's `explain` says, as a table: whom each rule counts the request for, and what is left.

use serde_json::Value;

use super::super::rows::{rows, text};
use crate::cli::ExplainArgs;
use crate::screen::{Align, Screen, Style, Table, visible};

pub(super) fn shown(args: &ExplainArgs, value: &Value, screen: Screen) -> String {
    let mut out = format!("request   {} {} from {}\n", visible(&args.method), visible(&args.path), args.ip);
    if let Some(user) = &args.user {
        out.push_str(&format!("user      {}, verified\n", visible(user)));
    }
    out.push('\n');
    let mut table = Table::new(&[
        ("RULE", Align::Left),
        ("LEFT", Align::Right),
        ("RATE", Align::Left),
        ("FULL AGAIN IN", Align::Left),
        ("COUNTED FOR, OR WHY NOT", Align::Left),
    ]);
    for rule in rows(value, "rules") {
        let word = |name: &str| rule.get(name).map(text).unwrap_or_default();
        if rule.get("applies") != Some(&Value::Bool(true)) {
            let row = [word("rule"), String::new(), String::new(), String::new(), word("why_not")];
            table.painted(row.map(|cell| (cell, Some(Style::Dim))));
            continue;
        }
        let key = |name: &str| rule.get("key").and_then(|key| key.get(name)).map(text).unwrap_or_default();
        let shadow = if rule.get("enforced") == Some(&Value::Bool(false)) { " (in shadow)" } else { "" };
        let whom = format!("{} {}", key("kind"), key("value"));
        let left = word("remaining");
        let style = (left == "0").then_some(Style::Red);
        table.painted([
            (word("rule"), None),
            (left, style),
            (format!("{} in {} s", word("limit"), word("window_seconds")), None),
            (format!("{} s", word("reset_after_seconds")), None),
            (format!("{}{shadow}", whom.trim_end()), None),
        ]);
    }
    out.push_str(&if table.is_empty() { "no rules\n".to_owned() } else { table.text(screen) });
    out
}
