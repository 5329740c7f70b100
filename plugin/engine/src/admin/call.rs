//! From a method and a path to one call, and what each call needs: a right, a body. What a call does is not known here.

use crate::policy::{Mistake, Mistakes};

/// One call of the admin API, below its configured path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `GET /v1/status`
    Status,
    /// `GET /v1/rules`
    Rules,
    /// `GET /v1/rules/NAME`
    Rule(String),
    /// `PUT /v1/rules/NAME`
    PutRule(String),
    /// `DELETE /v1/rules/NAME`
    RemoveRule(String),
    /// `GET /v1/overrides`
    Overrides,
    /// `POST /v1/overrides`
    Grant,
    /// `DELETE /v1/overrides/ID`
    Revoke(String),
    /// `GET /v1/overrides/check?user_id=&ip_address=`
    CheckOverrides {
        /// A verified user's id.
        user_id: Option<String>,
        /// An address.
        ip_address: Option<String>,
    },
    /// `GET /v1/metrics[/RULE]`
    Metrics(Option<String>),
    /// `POST /v1/metrics/RULE/reset`
    Reset(String),
    /// `GET /v1/counters?rule=&key=`
    Counter(Place),
    /// `DELETE /v1/counters?rule=&key=`
    ClearCounter(Place),
    /// `POST /v1/explain`
    Explain,
    /// `GET /v1/audit?after=SEQ`
    Audit {
        /// Entries with larger numbers are wanted.
        after: u64,
    },
}

/// One client's counter of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The rule's name.
    pub rule: String,
    /// The identity that the rule counts by; empty where it has only one.
    pub key: String,
    /// Which kind of identity, where it is not the one that the rule's scope says: `user`, `unverified`, `ip`.
    pub kind: Option<String>,
}

/// Why a request is no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// There is nothing at this path.
    NotFound,
    /// There is, for these methods.
    Method(&'static str),
    /// The query does not fit.
    Query(Mistakes),
}

/// What methods and paths mean, in the order they are tried.
const ROUTES: &[(&str, &str)] = &[
    ("status", "GET"),
    ("rules", "GET"),
    ("rules/*", "GET, PUT, DELETE"),
    ("overrides", "GET, POST"),
    ("overrides/check", "GET"),
    ("overrides/*", "DELETE"),
    ("metrics", "GET"),
    ("metrics/*", "GET"),
    ("metrics/*/reset", "POST"),
    ("counters", "GET, DELETE"),
    ("explain", "POST"),
    ("audit", "GET"),
];

impl Call {
    /// Whether the call changes something, which a token of role `read` may not.
    pub fn writes(&self) -> bool {
        matches!(
            self,
            Self::PutRule(_)
                | Self::RemoveRule(_)
                | Self::Grant
                | Self::Revoke(_)
                | Self::Reset(_)
                | Self::ClearCounter(_)
        )
    }

    /// Whether the call is told more in a JSON body.
    pub fn has_body(&self) -> bool {
        matches!(self, Self::PutRule(_) | Self::Grant | Self::Explain)
    }

    /// The call that a request makes; `path` is what follows the configured path, with its query.
    ///
    /// # Errors
    /// Says why it is none.
    pub fn of(method: &[u8], path: &[u8]) -> Result<Self, Unroutable> {
        let path = core::str::from_utf8(path).map_err(|_| Unroutable::NotFound)?;
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let rest = path.strip_prefix("/v1/").ok_or(Unroutable::NotFound)?;
        let (route, methods) =
            ROUTES.iter().find(|(route, _)| fits(route, rest)).copied().ok_or(Unroutable::NotFound)?;
        // HEAD is GET whose body the proxy leaves off.
        let method = if method == b"HEAD" { b"GET" } else { method };
        let Some(method) = methods.split(',').map(str::trim_ascii).find(|known| known.as_bytes() == method) else {
            return Err(Unroutable::Method(methods));
        };
        let name = rest.split('/').nth(1).unwrap_or_default().to_owned();
        let mut query = Query::read(query);
        let call = match (route, method) {
            ("status", _) => Self::Status,
            ("rules", _) => Self::Rules,
            ("rules/*", "PUT") => Self::PutRule(name),
            ("rules/*", "DELETE") => Self::RemoveRule(name),
            ("rules/*", _) => Self::Rule(name),
            ("overrides", "POST") => Self::Grant,
            ("overrides", _) => Self::Overrides,
            ("overrides/check", _) => {
                Self::CheckOverrides { user_id: query.take("user_id"), ip_address: query.take("ip_address") }
            }
            ("overrides/*", _) => Self::Revoke(name),
            ("metrics", _) => Self::Metrics(None),
            ("metrics/*", _) => Self::Metrics(Some(name)),
            ("metrics/*/reset", _) => Self::Reset(name),
            ("counters", "DELETE") => Self::ClearCounter(query.place()),
            ("counters", _) => Self::Counter(query.place()),
            ("explain", _) => Self::Explain,
            _ => Self::Audit { after: query.number("after") },
        };
        query.rest_is_empty().map(|()| call).map_err(Unroutable::Query)
    }
}

/// Whether a path fits a route, in which `*` is one segment that is not empty.
fn fits(route: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    route
        .split('/')
        .all(|wanted| parts.next().is_some_and(|part| part == wanted || (wanted == "*" && !part.is_empty())))
        && parts.next().is_none()
}

/// A query's parameters, each taken once.
struct Query {
    parameters: Vec<(String, String)>,
    known: Vec<&'static str>,
    mistakes: Mistakes,
}

impl Query {
    fn read(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let parameters = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let parameters = parameters.map(|(name, value)| (decoded(name), decoded(value))).collect();
        Self { parameters, known: Vec::new(), mistakes: Mistakes::default() }
    }

    fn take(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let at = self.parameters.iter().position(|(known, _)| known == name)?;
        Some(self.parameters.remove(at).1)
    }

    fn place(&mut self) -> Place {
        let rule = self.take("rule").unwrap_or_else(|| {
            self.mistakes.add(Mistake::new("", "no rule", "?rule=NAME&key=IDENTITY"));
            String::new()
        });
        Place { rule, key: self.take("key").unwrap_or_default(), kind: self.take("kind") }
    }

    fn number(&mut self, name: &'static str) -> u64 {
        let Some(text) = self.take(name) else { return 0 };
        text.parse().unwrap_or_else(|_| {
            self.mistakes.add(Mistake::new(name, "no number", "a whole number, in digits"));
            0
        })
    }

    /// Anything left is a mistake: what is misspelt would be ignored otherwise.
    fn rest_is_empty(mut self) -> Result<(), Mistakes> {
        let known = if self.known.is_empty() { "none here".to_owned() } else { self.known.join(", ") };
        for (name, _) in &self.parameters {
            let name: String = name.chars().take(64).filter(char::is_ascii_graphic).collect();
            let mistake = Mistake::new("", format!("the parameter \"{name}\""), known.clone());
            self.mistakes.add(mistake.suggesting(&name, self.known.iter().copied()));
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(self.mistakes) }
    }
}

/// Percent-decoded, with `+` for a space; bytes that are not UTF-8 become U+FFFD.
fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    String::from_utf8_lossy(&crate::path::decode(spaced.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, path: &str) -> Result<Call, Unroutable> {
        Call::of(method.as_bytes(), path.as_bytes())
    }

    #[test]
    fn every_call_has_one_route() {
        let place = Place { rule: "r".to_owned(), key: "a b/é".to_owned(), kind: None };
        for (method, path, expected) in [
            ("GET", "/v1/status", Call::Status),
            ("HEAD", "/v1/status", Call::Status),
            ("GET", "/v1/rules", Call::Rules),
            ("GET", "/v1/rules/x", Call::Rule("x".to_owned())),
            ("PUT", "/v1/rules/x", Call::PutRule("x".to_owned())),
            ("DELETE", "/v1/rules/x", Call::RemoveRule("x".to_owned())),
            ("GET", "/v1/overrides", Call::Overrides),
            ("POST", "/v1/overrides", Call::Grant),
            ("DELETE", "/v1/overrides/ov_1", Call::Revoke("ov_1".to_owned())),
            ("GET", "/v1/metrics", Call::Metrics(None)),
            ("GET", "/v1/metrics/r", Call::Metrics(Some("r".to_owned()))),
            ("POST", "/v1/metrics/r/reset", Call::Reset("r".to_owned())),
            ("GET", "/v1/counters?rule=r&key=a+b%2F%C3%A9", Call::Counter(place.clone())),
            ("DELETE", "/v1/counters?key=a%20b/é&rule=r", Call::ClearCounter(place)),
            ("POST", "/v1/explain", Call::Explain),
            ("GET", "/v1/audit", Call::Audit { after: 0 }),
            ("GET", "/v1/audit?after=7", Call::Audit { after: 7 }),
            (
                "GET",
                "/v1/overrides/check?user_id=u",
                Call::CheckOverrides { user_id: Some("u".to_owned()), ip_address: None },
            ),
        ] {
            assert_eq!(call(method, path), Ok(expected), "{method} {path}");
        }
    }

    #[test]
    fn what_is_no_call_says_why() {
        for path in ["", "/", "/v1", "/v1/", "/v1/rules/", "/v1/rules/a/b", "/v2/rules", "/v1//rules", "/v1/nothing"] {
            assert_eq!(call("GET", path), Err(Unroutable::NotFound), "{path}");
        }
        assert_eq!(call("PATCH", "/v1/rules/x"), Err(Unroutable::Method("GET, PUT, DELETE")));
        assert_eq!(call("get", "/v1/rules"), Err(Unroutable::Method("GET")));
        for path in [
            "/v1/rules?x=1",
            "/v1/audit?after=-1",
            "/v1/audit?after=1&after=2",
            "/v1/counters",
            "/v1/overrides/check?user=a",
        ] {
            assert!(matches!(call("GET", path), Err(Unroutable::Query(_))), "{path}");
        }
    }
}
