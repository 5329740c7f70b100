//! Rules that are put at run time, laid over those of the policy file by name. The result is checked as a whole, by the
//! code that checks a policy file.

use super::text;
use crate::catalogue::Catalogue;
use crate::policy::mistake::{Mistake, Mistakes, quoted};
use crate::policy::{Node, Policy, body, json};

/// The file's document with `rules` in place of its own of the same names, others behind them.
///
/// # Errors
/// The file is no JSON.
pub fn laid_over(file: &[u8], rules: &[Node]) -> Result<Node, Mistakes> {
    let mut document = json::parse(file)?;
    if let Node::Object(members) = &mut document
        && let Some((_, Node::List(own))) = members.iter_mut().find(|(name, _)| name == "rules")
    {
        for rule in rules {
            match own.iter_mut().find(|known| known.word("name") == rule.word("name")) {
                Some(known) => known.clone_from(rule),
                None => own.push(rule.clone()),
            }
        }
    }
    Ok(document)
}

/// The policy of the file with `rules` over it.
///
/// # Errors
/// Everything that is wrong with the whole.
pub fn compiled(file: &[u8], rules: &[Node], catalogue: &Catalogue) -> Result<Policy, Mistakes> {
    Policy::parse(laid_over(file, rules)?.to_json().as_bytes(), catalogue)
}

/// A rule as `PUT /v1/rules/NAME` sends it, to be laid over `file` beside `others`.
///
/// # Errors
/// Everything that is wrong with it: pointers lead into the rule, or into the policy where something does not fit there.
pub fn rule(name: &str, sent: &[u8], file: &[u8], others: &[Node], catalogue: &Catalogue) -> Result<Node, Mistakes> {
    let mut node = json::parse(sent)?;
    if let Node::Object(members) = &mut node
        && !members.iter().any(|(member, _)| member == "name")
    {
        members.insert(0, ("name".to_owned(), text(name)));
    }
    let node = body::read(node.to_json().as_bytes(), &body::RULE, catalogue)?;
    if let Some(found) = node.word("name").filter(|found| *found != name) {
        return Err(Mistake::new("/name", quoted(found), format!("\"{name}\", as the path says")).into());
    }
    let mut rules: Vec<Node> = others.iter().filter(|other| other.word("name") != Some(name)).cloned().collect();
    rules.push(node.clone());
    let document = laid_over(file, &rules)?;
    let list = document.get("rules").map(Node::entries).unwrap_or_default();
    let index = list.iter().position(|rule| rule.word("name") == Some(name)).unwrap_or_default();
    let whole = Policy::parse(document.to_json().as_bytes(), catalogue).map_err(|mistakes| within(&mistakes, index))?;
    let own = Policy::parse(file, catalogue)?;
    only_known_clusters(&node, name, file, &whole, &own)?;
    Ok(node)
}

/// Where requests are sent is the policy file's to say: whoever holds a token of the admin API could otherwise reach
/// every cluster of the proxy.
fn only_known_clusters(node: &Node, name: &str, file: &[u8], whole: &Policy, own: &Policy) -> Result<(), Mistakes> {
    let mut mistakes = Mistakes::default();
    let queue = |policy: &Policy| {
        let rule = policy.rule(name)?;
        rule.strategy.queue().map(|queue| (queue.cluster.clone(), queue.authority.clone()))
    };
    if let Some((cluster, authority)) = queue(whole)
        && queue(own).as_ref() != Some(&(cluster.clone(), authority))
    {
        let allowed = "a cluster and authority that the policy file gives this very rule";
        mistakes.add(Mistake::new("/strategy/cluster", quoted(&cluster), allowed));
    }
    if let Some(forward) = node.get("strategy").and_then(|strategy| strategy.get("forward")) {
        let document = json::parse(file)?;
        let rules = document.get("rules").map(Node::entries).unwrap_or_default();
        let chosen = |rule: &Node| rule.get("strategy")?.get("forward")?.get("cluster_header").cloned();
        let known = rules.iter().find(|rule| rule.word("name") == Some(name)).and_then(chosen);
        if let Some(wanted) = forward.get("cluster_header")
            && known.as_ref() != Some(wanted)
        {
            let allowed = "what the policy file gives this very rule";
            mistakes.add(Mistake::new("/strategy/forward/cluster_header", "a cluster", allowed));
        }
        let reserved: Vec<Node> = rules.iter().filter_map(chosen).collect();
        for (header, _) in forward.get("headers").map(Node::members).unwrap_or_default() {
            let is_reserved = |node: &Node| node.word("name").is_some_and(|name| name.eq_ignore_ascii_case(header));
            if reserved.iter().any(is_reserved) {
                let allowed = "no header that chooses a cluster";
                mistakes.add(Mistake::new("/strategy/forward/headers", quoted(header), allowed));
            }
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// The mistakes with pointers into the rule at `index` instead of into the policy.
fn within(mistakes: &Mistakes, index: usize) -> Mistakes {
    let prefix = format!("/rules/{index}");
    let mut inner = Mistakes::default();
    for mistake in mistakes {
        let rest = mistake.pointer.strip_prefix(&prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let pointer = rest.unwrap_or(&mistake.pointer).to_owned();
        inner.add(Mistake { pointer, ..mistake.clone() });
    }
    inner
}

/// A rule as the API shows it: as it was written, with where it comes from.
pub fn shown(rule: &Node, is_runtime: bool) -> Node {
    let mut members = rule.members().to_vec();
    members.push(("source".to_owned(), text(if is_runtime { "runtime" } else { "file" })));
    if rule.get("enabled").is_none() {
        members.push(("enabled".to_owned(), Node::Boolean(true)));
    }
    Node::Object(members)
}
