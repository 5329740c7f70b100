//! A policy's text with its secrets made unreadable, so that a line of it can be shown. It works on any text, since
//! what is shown most is a policy with mistakes: it rather hides too much.

/// Below these members of the document every value is hidden, unless its name is one of [`PLAIN`].
const PRIVATE: [&str; 3] = ["store", "admin_api", "alerts"];
/// Names of members that hold no secret, wherever they stand.
const PLAIN: [&str; 22] = [
    "type",
    "cluster",
    "authority",
    "protocol",
    "timeout_ms",
    "mode",
    "max_keys",
    "failures",
    "open_ms",
    "name",
    "role",
    "path",
    "hosts",
    "max_override_minutes",
    "when",
    "value",
    "rule",
    "for_seconds",
    "cooldown_seconds",
    "rate",
    "scope",
    "burst",
];
/// What a name holds that belongs to a secret, wherever it stands.
const SECRET: [&str; 8] = ["token", "password", "secret", "basic", "authorization", "api-key", "api_key", "cookie"];
/// Where the same words name a source of identities or a link, not a secret.
const SOURCES: &str = "identity";

/// The text with `*` for each character of a value that may be a secret. Lines and columns stay what they are.
pub(crate) fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The name that each open object or list stands under, and whether values in it are hidden.
    let mut open: Vec<(String, bool)> = Vec::new();
    let mut name = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '"' => string_length(rest),
            '{' | '[' | '}' | ']' | ',' | ':' => 1,
            _ if next.is_whitespace() => next.len_utf8(),
            _ => rest.find(|c: char| c.is_whitespace() || ",:{}[]\"".contains(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length.max(next.len_utf8()));
        rest = after;
        let is_name = next == '"' && after.trim_start().starts_with(':');
        let is_value = !is_name && !next.is_whitespace() && !"{}[],:".contains(next);
        match next {
            '{' | '[' => {
                let is_secret = is_secret(&name, &open);
                open.push((name.clone(), is_secret));
            }
            '}' | ']' => name = open.pop().map(|(name, _)| name).unwrap_or_default(),
            _ if is_name => token.trim_matches('"').clone_into(&mut name),
            _ => {}
        }
        if is_value && is_hidden(&name, &open) {
            out.extend(token.chars().map(|c| if c == '"' || c == '\n' { c } else { '*' }));
        } else {
            out.push_str(token);
        }
    }
    out
}

/// Whether a value called `name` inside of `open` may be a secret.
fn is_hidden(name: &str, open: &[(String, bool)]) -> bool {
    is_secret(name, open) || (PRIVATE.contains(&top(name, open)) && !PLAIN.contains(&name))
}

/// Whether all values below `name` inside of `open` are secrets, whatever they are called.
fn is_secret(name: &str, open: &[(String, bool)]) -> bool {
    if top(name, open) == SOURCES {
        return false;
    }
    let name = name.to_ascii_lowercase();
    // The list "tokens" holds objects with names and roles; the secrets in them have names of their own.
    let is_called_so = SECRET.iter().any(|secret| name.contains(secret)) && name != "tokens";
    is_called_so || open.last().is_some_and(|(_, is_secret)| *is_secret)
}

/// The document's member that the value is, or is in. The document itself stands under no name.
fn top<'a>(name: &'a str, open: &'a [(String, bool)]) -> &'a str {
    open.get(1).map_or(name, |(top, _)| top.as_str())
}

fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            // A string that is not closed ends with its line.
            '\n' => return index,
            '"' if !is_escaped => return index + 1,
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_is_not() {
        for (text, expected) in [
            (r#"{"store": {"type": "redis", "token": "abc"}}"#, r#"{"store": {"type": "redis", "token": "***"}}"#),
            (r#"{"store": {"tokn": "abc", "token": 12345}}"#, r#"{"store": {"tokn": "***", "token": *****}}"#),
            (
                r#"{"store": {"basic": {"user": "u", "password": "p\"x"}}, "headers": "off"}"#,
                r#"{"store": {"basic": {"user": "*", "password": "**"*"}}, "headers": "off"}"#,
            ),
            (
                r#"{"admin_api": {"tokens": [{"name": "ops", "sha256": "0f"}], "hosts": ["a"]}}"#,
                r#"{"admin_api": {"tokens": [{"name": "ops", "sha256": "**"}], "hosts": ["a"]}}"#,
            ),
            (
                r#"{"identity": {"user": [{"cookie": "session"}]}, "rules": [{"name": "a"}]}"#,
                r#"{"identity": {"user": [{"cookie": "session"}]}, "rules": [{"name": "a"}]}"#,
            ),
            (
                r#"{"rules": [{"strategy": {"headers": {"x-api-key": "k"}}}]}"#,
                r#"{"rules": [{"strategy": {"headers": {"x-api-key": "*"}}}]}"#,
            ),
            ("{\"store\": {\"password\": \"open\n", "{\"store\": {\"password\": \"****\n"),
            ("{\"store\": \"redis://:pw\"", "{\"store\": \"***********\""),
        ] {
            assert_eq!(mask(text), expected, "{text}");
        }
    }
}
