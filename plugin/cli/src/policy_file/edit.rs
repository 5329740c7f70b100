//! Edits of a policy's text that touch nothing but the rule they are about: order, formatting and members of all else
//! stay as they are. The text must be a policy without mistakes.

use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A rule as it will be written: its members in order.
pub(crate) type Members = Vec<(&'static str, Value)>;

/// The list of rules in a policy's text.
#[derive(Debug)]
struct Rules {
    /// From behind `[` to before `]`.
    inside: Range<usize>,
    entries: Vec<Range<usize>>,
    names: Vec<String>,
}

/// The text with the rule added behind the last one; `None` where the text has no list of rules.
pub(crate) fn add(text: &str, rule: &Members) -> Option<String> {
    let rules = Rules::of(text)?;
    let Some(last) = rules.entries.last() else {
        let line_start = text[..rules.inside.start].rfind('\n').map_or(0, |newline| newline + 1);
        let base: String = text[line_start..].chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
        let unit = if base.is_empty() { "  " } else { &base };
        let end = line_end(text);
        let inside = format!("{end}{base}{unit}{}{end}{base}", on_one_line(rule));
        return Some(replaced(text, rules.inside, &inside));
    };
    let before = match rules.entries.len().checked_sub(2).and_then(|index| rules.entries.get(index)) {
        Some(earlier) => text[earlier.end..last.start].trim_start().trim_start_matches(',').to_owned(),
        None if text[rules.inside.start..last.start].is_empty() => " ".to_owned(),
        None => text[rules.inside.start..last.start].to_owned(),
    };
    let inserted = format!(",{before}{}", like(&text[last.clone()], rule));
    Some(replaced(text, last.end..last.end, &inserted))
}

/// The text with the rule in the place of the one of the same name; `None` where there is none.
pub(crate) fn replace(text: &str, name: &str, rule: &Members) -> Option<String> {
    let rules = Rules::of(text)?;
    let place = rules.entry(name)?.clone();
    let new = like(&text[place.clone()], rule);
    Some(replaced(text, place, &new))
}

/// The text without the rule of that name; `None` where there is none.
pub(crate) fn remove(text: &str, name: &str) -> Option<String> {
    let rules = Rules::of(text)?;
    let index = rules.names.iter().position(|own| own == name)?;
    let place = rules.entries.get(index)?;
    let earlier = index.checked_sub(1).and_then(|index| rules.entries.get(index));
    let range = match (earlier, rules.entries.get(index + 1)) {
        (Some(earlier), _) => earlier.end..place.end,
        (None, Some(next)) => place.start..next.start,
        (None, None) => rules.inside,
    };
    Some(replaced(text, range, ""))
}

/// Whether the text has a rule of that name.
pub(crate) fn has(text: &str, name: &str) -> bool {
    Rules::of(text).is_some_and(|rules| rules.entry(name).is_some())
}

impl Rules {
    fn of(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document<'a> {
            #[serde(borrow)]
            rules: &'a RawValue,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let rules = serde_json::from_str::<Document<'_>>(text).ok()?.rules.get();
        let raw: Vec<&RawValue> = serde_json::from_str(rules).ok()?;
        let list = place(text, rules)?;
        let entries = raw.iter().map(|entry| place(text, entry.get())).collect::<Option<_>>()?;
        let name = |entry: &&RawValue| serde_json::from_str::<Named>(entry.get()).ok().map(|named| named.name);
        let names = raw.iter().map(name).collect::<Option<_>>()?;
        Some(Self { inside: list.start + 1..list.end - 1, entries, names })
    }

    fn entry(&self, name: &str) -> Option<&Range<usize>> {
        self.entries.get(self.names.iter().position(|own| own == name)?)
    }
}

/// Where a part that was borrowed from the text stands in it.
fn place(text: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let range = start..start + part.len();
    (text.get(range.clone()) == Some(part)).then_some(range)
}

fn replaced(text: &str, range: Range<usize>, with: &str) -> String {
    format!("{}{with}{}", &text[..range.start], &text[range.end..])
}

fn line_end(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn on_one_line(rule: &Members) -> String {
    format!("{{{}}}", members(rule).join(", "))
}

/// The rule laid out as its neighbour is: on one line, or each member on its own with the same indentation.
fn like(neighbour: &str, rule: &Members) -> String {
    let inside = neighbour.trim_start_matches('{');
    let lead = &inside[..inside.len() - inside.trim_start().len()];
    if !lead.contains('\n') {
        return on_one_line(rule);
    }
    let inside = neighbour.trim_end_matches('}');
    let close = &inside[inside.trim_end().len()..];
    format!("{{{lead}{}{close}}}", members(rule).join(&format!(",{lead}")))
}

fn members(rule: &Members) -> Vec<String> {
    rule.iter().map(|(name, value)| format!("\"{name}\": {}", spaced(value))).collect()
}

/// A value as people write it: a space behind commas and colons.
fn spaced(value: &Value) -> String {
    let list = |entries: Vec<String>| entries.join(", ");
    match value {
        Value::Array(entries) => format!("[{}]", list(entries.iter().map(spaced).collect())),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), spaced(value));
            format!("{{{}}}", list(members.iter().map(member).collect()))
        }
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests;
