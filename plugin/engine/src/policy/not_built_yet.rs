//! What the format describes and this version does not do: using it is a mistake, so that it is never silently ignored.
//! Whoever builds one of these removes its line from [`NOT_BUILT_YET`].

use super::json::Node;
use super::mistake::{Mistake, Mistakes, quoted};

/// The features that are refused, each with what to use meanwhile.
const NOT_BUILT_YET: &[(Feature, &str)] = &[(Feature::Store("redis"), "local")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature<'a> {
    Store(&'a str),
}

/// Adds a mistake for each use, in a document whose defaults are filled in, of something that is not built yet.
pub(super) fn refuse(document: &Node, mistakes: &mut Mistakes) {
    if let Some(kind) = document.get("store").and_then(|store| store.word("type")) {
        refuse_feature(Feature::Store(kind), "/store/type", &quoted(kind), mistakes);
    }
}

fn refuse_feature(feature: Feature<'_>, pointer: &str, found: &str, mistakes: &mut Mistakes) {
    if let Some((_, instead)) = NOT_BUILT_YET.iter().find(|(refused, _)| *refused == feature) {
        mistakes.add(Mistake::new(pointer, format!("{found}, which is not available in this version"), *instead));
    }
}

/// The mistake of writing a Redis URL somewhere in the store: the filter opens no sockets.
pub(super) fn redis_url(node: &Node, pointer: &str) -> Option<Mistake> {
    let (scheme, _) = node.text()?.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let is_redis = ["redis", "rediss", "redis-cluster", "rediss-cluster", "sentinel"].contains(&scheme.as_str());
    let in_store = pointer.strip_prefix("/store").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (is_redis && in_store).then(|| {
        let allowed = format!(
            "\"type\": \"redis\" with the proxy's \"cluster\" that reaches a gateway over HTTP: a filter opens no \
             sockets, so run tidegate-gateway --redis {scheme}://..."
        );
        Mistake::new(pointer, format!("a {scheme}:// URL"), allowed)
    })
}
