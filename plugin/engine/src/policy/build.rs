//! Builds the policy from a document that fits the format: each part that is free of mistakes, so that what is wrong
//! between the parts is reported together with what is wrong within them.

use super::identity::{Admins, IdentitySettings};
use super::json::Node;
use super::mistake::{Mistakes, entry};
use super::operate::{AdminApi, Alert};
use super::relations::{replaced, unique_names};
use super::rule::{Rule, Surroundings};
use super::store::Store;
use super::{HeaderStyle, Policy};
use crate::catalogue::Catalogue;

/// Builds from a document whose defaults are filled in. `None` only with a mistake.
pub(super) fn build(document: &Node, catalogue: &Catalogue, mistakes: &mut Mistakes) -> Option<Policy> {
    let rule_nodes = document.get("rules").map(Node::entries).unwrap_or_default();
    let names = unique_names(rule_nodes, "/rules", "rule", mistakes);
    let replaced = replaced(rule_nodes, &names, mistakes);
    let rules = rules(document, rule_nodes, replaced, catalogue, mistakes);
    let identity = part(document, "identity", mistakes, IdentitySettings::build);
    let admins = part(document, "admins", mistakes, |node, _| Admins::build(node));
    let store = part(document, "store", mistakes, Store::build);
    let admin_api = match document.get("admin_api") {
        None => Some(AdminApi::default()),
        Some(_) => part(document, "admin_api", mistakes, AdminApi::build),
    };
    let alerts = part(document, "alerts", mistakes, |list, mistakes| {
        unique_names(list.entries(), "/alerts", "alert", mistakes);
        let alert = |(index, alert)| Alert::build(alert, index, &names, mistakes);
        // All of them, before the first that cannot be built ends it.
        let alerts: Vec<Option<Alert>> = list.entries().iter().enumerate().map(alert).collect();
        alerts.into_iter().collect()
    });
    Some(Policy {
        namespace: document.word("namespace")?.to_owned(),
        paths_are_loose: document.word("paths")? == "loose",
        identity: identity?,
        rules: rules?,
        admins: admins?,
        store: store?,
        headers: match document.word("headers")? {
            "draft11" => HeaderStyle::Draft11,
            "legacy" => HeaderStyle::Legacy,
            "both" => HeaderStyle::Both,
            _ => HeaderStyle::Off,
        },
        admin_api: admin_api?,
        alerts: alerts?,
        warnings: Vec::new(),
    })
}

/// Builds a part of the document, unless something in it is wrong already.
fn part<T>(
    document: &Node,
    name: &str,
    mistakes: &mut Mistakes,
    build: impl FnOnce(&Node, &mut Mistakes) -> Option<T>,
) -> Option<T> {
    if !mistakes.spare(&format!("/{name}")) {
        return None;
    }
    build(document.get(name)?, mistakes)
}

fn rules(
    document: &Node,
    nodes: &[Node],
    replaced: Vec<Vec<usize>>,
    catalogue: &Catalogue,
    mistakes: &mut Mistakes,
) -> Option<Vec<Rule>> {
    let around = Surroundings {
        defaults: document.get("defaults")?,
        catalogue,
        store_is_redis: document.get("store").and_then(|store| store.word("type")) == Some("redis"),
    };
    let mut rules = Some(Vec::new());
    for ((index, node), replaced) in nodes.iter().enumerate().zip(replaced) {
        let own = |name: &str| node.get(name).is_some();
        let defaults_serve = (own("algorithm") || mistakes.spare("/defaults/algorithm"))
            && (own("strategy") || mistakes.spare("/defaults/strategy"));
        let built = if defaults_serve && mistakes.spare(&entry("/rules", index)) {
            Rule::build(node, index, &around, mistakes).map(|rule| Rule { replaces: replaced, ..rule })
        } else {
            None
        };
        // One rule that cannot be built leaves no policy, but the others are still looked through.
        rules = rules.zip(built).map(|(mut rules, rule)| {
            rules.push(rule);
            rules
        });
    }
    rules
}
