//! What the tests need to know of an expression in `PromQL`: the series that it reads. Prometheus parses the rest.

/// Words that stand before a parenthesis or between operands, and are no metrics.
const WORDS: [&str; 18] = [
    "and", "or", "unless", "offset", "bool", "sum", "min", "max", "avg", "count", "topk", "bottomk", "group", "by",
    "on", "without", "ignoring", "inf",
];
/// Words before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "on", "without", "ignoring", "group_left", "group_right"];

/// The selectors in an expression, each a metric's name with its matchers, without ranges and offsets.
pub(crate) fn selectors(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            rest = &rest[quoted(rest)..];
        } else if first == '[' {
            rest = &rest[until(rest, ']')..];
        } else if first.is_ascii_digit() {
            rest = &rest[word(rest)..];
        } else if first.is_ascii_alphabetic() || first == '_' {
            let (name, after) = rest.split_at(word(rest));
            let next = after.trim_start();
            rest = after;
            if BEFORE_LABELS.contains(&name) {
                rest = &next[until(next, ')')..];
            } else if !next.starts_with('(') && !WORDS.contains(&name) {
                let matchers = if next.starts_with('{') { until(next, '}') } else { 0 };
                found.push(format!("{name}{}", &next[..matchers]));
                rest = &next[matchers..];
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

/// How long the word at the start is.
fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len())
}

/// How long the string at the start is, with its quotes. No expression here escapes one.
fn quoted(text: &str) -> usize {
    text[1..].find('"').map_or(text.len(), |end| end + 2)
}

/// How long the text up to and with `end` is, which counts in no string.
fn until(text: &str, end: char) -> usize {
    let mut is_quoted = false;
    for (at, c) in text.char_indices() {
        is_quoted ^= c == '"';
        if c == end && !is_quoted {
            return at + c.len_utf8();
        }
    }
    text.len()
}

#[test]
fn selectors_are_found_with_their_matchers() {
    let expression =
        r#"sum by (job, le) (rate(a_total{x="}",y=~"b|c"}[5m])) / on (job) (d:e:rate5m > 0.5) unless f offset 1h"#;
    assert_eq!(selectors(expression), [r#"a_total{x="}",y=~"b|c"}"#, "d:e:rate5m", "f"]);
    assert_eq!(selectors("min_over_time((max by (job) (g))[1d:5m]) > 0 and time() > 1e3"), ["g"]);
}
