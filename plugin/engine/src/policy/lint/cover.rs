//! Which rule matches all that another one does, and which endpoint all that another one does: as far as it can be
//! seen without trying requests. What is not seen draws no warning.

use crate::policy::Rule;
use crate::template::Template;

/// Of a rule's endpoints, only as many are compared with each other.
const MOST_IN_A_RULE: usize = 100;
/// Two rules' endpoints are compared where they make no more pairs than this: a thousand rules make a million pairs of
/// rules, and a warning is not worth a proxy's start.
const MOST_PAIRS: usize = 64;

/// Whether every request that `narrow` matches is surely matched by `wide`, too.
pub(super) fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let endpoints = wide.endpoints.is_empty()
        || wide.endpoints == narrow.endpoints
        || (!narrow.endpoints.is_empty()
            && narrow.endpoints.len().saturating_mul(wide.endpoints.len()) <= MOST_PAIRS
            && narrow.endpoints.iter().all(|narrow| wide.endpoints.iter().any(|wide| contains(wide, narrow))));
    endpoints
        && (wide.methods.is_empty() || wide.methods == narrow.methods)
        && (wide.user_ids.is_empty() || wide.user_ids == narrow.user_ids)
        && (wide.ip_addresses.is_empty() || wide.ip_addresses == narrow.ip_addresses)
}

/// The endpoints, by index, that an earlier one, by index, leaves nothing to.
pub(super) fn shadowed(endpoints: &[Template]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (later, narrow) in endpoints.iter().enumerate().take(MOST_IN_A_RULE) {
        if let Some(earlier) = endpoints.iter().take(later).position(|wide| contains(wide, narrow)) {
            found.push((later, earlier));
        }
    }
    found
}

/// Whether every path that `narrow` matches is matched by `wide`: segment by segment, where `{name}` contains any
/// segment and a last `*` any number of them.
fn contains(wide: &Template, narrow: &Template) -> bool {
    let mut narrow = narrow.as_str().split('/');
    for wide in wide.as_str().split('/') {
        match (wide, narrow.next()) {
            ("*", Some(_)) => return true,
            (wide, Some(narrow)) if wide == narrow && narrow != "*" => {}
            (wide, Some(narrow)) if wide.starts_with('{') && !matches!(narrow, "" | "*") => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_endpoint_contains_a_narrower_one() {
        for (wide, narrow, expected) in [
            ("/static/*", "/static/img/*", true),
            ("/static/*", "/static/a", true),
            ("/static/*", "/static", false),
            ("/static/*", "/static/", true),
            ("/*", "/", true),
            ("/v1/{id}", "/v1/me", true),
            ("/v1/{id}", "/v1/{name}", true),
            ("/v1/{id}", "/v1/", false),
            ("/v1/{id}", "/v1/*", false),
            ("/v1/me", "/v1/{id}", false),
            ("/a", "/a/", false),
            ("/a", "/a", true),
            ("/a/b", "/a", false),
        ] {
            let (wide_path, narrow_path) = (Template::parse(wide).unwrap(), Template::parse(narrow).unwrap());
            assert_eq!(contains(&wide_path, &narrow_path), expected, "{wide} {narrow}");
        }
    }
}
