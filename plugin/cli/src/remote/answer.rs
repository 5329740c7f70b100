//! How an answer of the admin API is read: whether it is one at all, what a refusal says, and that the token is in neither.

use serde_json::{Map, Value};
use ureq::http::StatusCode;

use crate::screen::visible;

/// What stands for the token.
const HIDDEN: &str = "(the token)";

/// The answer, which has these members; without any it is empty.
///
/// # Errors
/// Says what it does instead: it is somebody else's answer, as of an upstream that the address leads to.
pub(super) fn read(text: &str, members: &[&str]) -> Result<Value, String> {
    let value = match text.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text).map_err(|_| "does not answer in JSON".to_owned())?,
    };
    if members.is_empty() && !value.is_null() {
        return Err("answers where there is nothing to say".to_owned());
    }
    match members.iter().find(|name| value.get(**name).is_none()) {
        Some(missing) => Err(format!("answers without \"{missing}\"")),
        None => Ok(value),
    }
}

/// Whether a 404 may say that there is no rule, override or ticket of the name in the path: of other calls, and from
/// others than the admin API, it says that the call went elsewhere.
pub(super) fn is_about_a_name(path: &str, text: &str) -> bool {
    let names = path.strip_prefix("/v1/").is_some_and(|rest| rest.split('?').next().unwrap_or(rest).contains('/'));
    let is_problem = serde_json::from_str::<Value>(text).is_ok_and(|value| value.get("detail").is_some());
    names && is_problem
}

/// The text with the token taken out.
pub(super) fn without(token: Option<&str>, text: &str) -> String {
    token.map_or_else(|| text.to_owned(), |token| text.replace(token, HIDDEN))
}

/// The value with the token taken out of every text in it.
pub(super) fn value_without(token: Option<&str>, value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without(token, &text)),
        Value::Array(entries) => entries.into_iter().map(|entry| value_without(token, entry)).collect(),
        Value::Object(members) => {
            let hidden = members.into_iter().map(|(name, value)| (without(token, &name), value_without(token, value)));
            Value::Object(hidden.collect::<Map<String, Value>>())
        }
        other => other,
    }
}

/// What an answer that is no success says: RFC 9457's `detail` and `title`, and a policy's `mistakes`.
pub(super) fn problem(status: StatusCode, text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let word = |name: &str| value.get(name).and_then(Value::as_str);
    let said = word("detail").or_else(|| word("title")).map(|said| visible(said).into_owned());
    let mut out = match said {
        Some(said) => format!("{said} ({})", status.as_u16()),
        None => status.to_string(),
    };
    let mistakes = ["mistakes", "errors"].iter().find_map(|name| value.get(*name)?.as_array());
    for mistake in mistakes.into_iter().flatten() {
        let member = |name: &str| mistake.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = match mistake.as_str() {
            Some(line) => line.to_owned(),
            None if mistake.get("message").is_some() => member("message").to_owned(),
            None => {
                let what = format!("found {}, allowed: {}", member("found"), member("allowed"));
                let guess = mistake.get("suggestion").and_then(Value::as_str);
                let guess = guess.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
                // A mistake of the whole body has an empty pointer.
                let place = Some(member("pointer")).filter(|pointer| !pointer.is_empty()).unwrap_or("(the document)");
                format!("{place}: {what}{guess}")
            }
        };
        out.push_str(&format!("\n  {}", visible(&line)));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_has_what_the_call_is_for() {
        assert_eq!(read(r#"{"a": 1, "b": 2}"#, &["a", "b"]), Ok(json!({"a": 1, "b": 2})));
        assert_eq!(read(" ", &[]), Ok(Value::Null));
        for (text, members, wrong) in [
            ("<html>", &["a"][..], "does not answer in JSON"),
            ("{}", &["a"], "answers without \"a\""),
            ("", &["a"], "answers without \"a\""),
            ("[]", &["a"], "answers without \"a\""),
            ("{}", &[], "answers where there is nothing to say"),
        ] {
            assert_eq!(read(text, members), Err(wrong.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_token_is_nowhere() {
        let token = Some("t0\"ken");
        let value = json!({"a t0\"ken": ["Bearer t0\"ken", {"b": "t0\"kent0\"ken"}], "c": 1});
        let hidden = json!({"a (the token)": ["Bearer (the token)", {"b": "(the token)(the token)"}], "c": 1});
        assert_eq!(value_without(token, value.clone()), hidden);
        assert_eq!(value_without(None, value.clone()), value);
    }

    #[test]
    fn a_404_of_a_name_is_an_answer_and_all_others_are_not() {
        let problem = r#"{"status": 404, "detail": "There is no such thing."}"#;
        for path in ["/v1/rules/a", "/v1/overrides/ov_1", "/v1/metrics/a/reset", "/v1/queue/00"] {
            assert!(is_about_a_name(path, problem) && !is_about_a_name(path, "<html>"), "{path}");
        }
        for path in ["/v1/status", "/v1/rules", "/v1/audit?after=1/2", "/v1/counters?rule=a&key=b/c"] {
            assert!(!is_about_a_name(path, problem), "{path}");
        }
    }

    #[test]
    fn problems_are_told_in_full_and_harmless() {
        let text = r#"{"title": "t", "detail": "no\u001b[2J",
            "mistakes": ["/rate: found 0", {"pointer": "/a", "found": "1", "allowed": "2"}]}"#;
        let told = problem(StatusCode::UNPROCESSABLE_ENTITY, text);
        assert_eq!(told, "no\\u{1b}[2J (422)\n  /rate: found 0\n  /a: found 1, allowed: 2");
        assert_eq!(problem(StatusCode::BAD_GATEWAY, "<html>"), "502 Bad Gateway");
    }
}
