//! JSON answers as tables and lists, without knowing more of them than they tell: what a newer proxy adds is shown,
//! what an older one leaves out is not missed.

use serde_json::Value;

use crate::screen::{Align, Screen, Table, visible};

/// The objects in `value[name]`, in `value` itself where it is a list, or the members of an object of objects, each
/// then with its name.
pub(super) fn rows(value: &Value, name: &str) -> Vec<Value> {
    match value.get(name).unwrap_or(value) {
        Value::Array(entries) => entries.clone(),
        Value::Object(members) if !members.is_empty() && members.values().all(Value::is_object) => {
            let named = |(key, entry): (&String, &Value)| {
                let mut entry = entry.clone();
                if let Some(members) = entry.as_object_mut() {
                    members.entry("name").or_insert_with(|| key.as_str().into());
                }
                entry
            };
            members.iter().map(named).collect()
        }
        Value::Object(members) if !members.is_empty() && value.get(name).is_none() => vec![value.clone()],
        _ => Vec::new(),
    }
}

/// A table of the rows: those of `first` that any row has, in that order, then all others but lists and objects.
pub(super) fn table(rows: &[Value], first: &[&str]) -> Table {
    let has = |name: &str| rows.iter().any(|row| row.get(name).is_some_and(|value| !value.is_null()));
    let mut columns: Vec<String> = first.iter().filter(|name| has(name)).map(|name| (*name).to_owned()).collect();
    for row in rows {
        for (name, value) in row.as_object().into_iter().flatten() {
            if !columns.contains(name) && !value.is_object() && !value.is_array() && !value.is_null() {
                columns.push(name.clone());
            }
        }
    }
    let align = |name: &String| {
        let is_number = |row: &Value| row.get(name).is_none_or(|value| value.is_number() || value.is_null());
        if rows.iter().all(is_number) { Align::Right } else { Align::Left }
    };
    let heading: Vec<(String, Align)> =
        columns.iter().map(|name| (name.to_uppercase().replace('_', " "), align(name))).collect();
    let mut table = Table::new(&heading);
    for row in rows {
        let cell = |name: &String| match row.get(name) {
            Some(Value::String(moment)) if name == "at" || name.ends_with("_at") => to_the_second(moment),
            value => value.map(text).unwrap_or_default(),
        };
        table.row(columns.iter().map(cell));
    }
    table
}

/// Every value that is neither list nor object, a line each, with the way to it.
pub(super) fn lines(value: &Value) -> String {
    let mut found = Vec::new();
    flatten("", value, &mut found);
    let width = found.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    found.iter().map(|(name, value)| format!("{}  {}\n", visible(&format!("{name:width$}")), visible(value))).collect()
}

fn flatten(way: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                flatten(&if way.is_empty() { name.clone() } else { format!("{way}.{name}") }, value, found);
            }
        }
        Value::Array(entries) if entries.iter().any(|entry| entry.is_object() || entry.is_array()) => {
            for (index, entry) in entries.iter().enumerate() {
                flatten(&format!("{way}.{index}"), entry, found);
            }
        }
        value => found.push((way.to_owned(), text(value))),
    }
}

/// A moment as the proxy writes it, without its microseconds.
pub(super) fn to_the_second(moment: &str) -> String {
    match moment.split_once('.') {
        Some((seconds, rest)) if rest.ends_with('Z') => format!("{seconds}Z"),
        _ => moment.to_owned(),
    }
}

/// A value in a few words.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(entries) if entries.is_empty() => "none".to_owned(),
        Value::Array(entries) => entries.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(members) => match members.get("type").and_then(Value::as_str) {
            Some(kind) => kind.to_owned(),
            None => value.to_string(),
        },
        number => number.to_string(),
    }
}

/// Prints an answer: as it is for machines, else as `shown`.
pub(super) fn print(
    screen: Screen,
    value: &Value,
    shown: impl FnOnce(&Value) -> String,
) -> Result<(), crate::failure::Failure> {
    if screen.is_json { Screen::print_json(value) } else { screen.print(&shown(value)) }
}

/// Says what was done; for machines with what the proxy answered, where it answered more than "done".
pub(super) fn print_done(screen: Screen, value: &Value, done: &str) -> Result<(), crate::failure::Failure> {
    let value = if value.is_null() { serde_json::json!({"done": done}) } else { value.clone() };
    print(screen, &value, |_| format!("{}\n", visible(done)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_of_several_shapes_are_rows() {
        let row = json!({"name": "a", "rate": 1});
        for value in [json!({"rules": [row]}), json!([row]), json!({"rules": {"a": {"rate": 1}}}), row.clone()] {
            assert_eq!(rows(&value, "rules"), std::slice::from_ref(&row), "{value}");
        }
        assert!(rows(&json!({"rules": []}), "rules").is_empty());
    }

    #[test]
    fn what_is_not_known_is_shown_too() {
        let value = json!({"a": {"b": [1, 2], "c": "\u{1b}"}, "d": [{"e": true}]});
        assert_eq!(lines(&value), "a.b    1, 2\na.c    \\u{1b}\nd.0.e  yes\n");
    }
}
