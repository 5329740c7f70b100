//! Writes the format's defaults into a document that was checked, so that whoever builds from it finds every member.

use super::fits::{by_member, takes};
use super::json::{Node, parse};
use super::shape::{Member, Presence, Shape};

use crate::catalogue::Catalogue;

/// Fills in what is absent. What does not fit its shape stays as it is. A strategy's bare name becomes an object.
pub(super) fn fill(node: &mut Node, shape: &Shape, catalogue: &Catalogue) {
    if let (Shape::Strategy, Node::Text(name)) = (shape, &*node) {
        *node = Node::Object(vec![("type".to_owned(), Node::Text(name.clone()))]);
    }
    match shape {
        Shape::List { of, .. } => {
            if let Node::List(entries) = node {
                for entry in entries {
                    fill(entry, of, catalogue);
                }
            }
        }
        Shape::Object(members) => fill_members(node, members, catalogue),
        Shape::Typed(kinds) => {
            let kind = kind_of(node).and_then(|name| kinds.iter().find(|kind| kind.name == name));
            fill_members(node, kind.map(|kind| kind.members).unwrap_or_default(), catalogue);
        }
        Shape::ByMember(kinds) => {
            let kind = by_member(kinds, node);
            fill_members(node, kind.map(|kind| kind.members).unwrap_or_default(), catalogue);
        }
        Shape::Strategy => {
            let kind = kind_of(node).and_then(|name| catalogue.strategy(name));
            fill_members(node, kind.map(|kind| kind.options).unwrap_or_default(), catalogue);
        }
        Shape::Either(shapes) => {
            if let Some(shape) = shapes.iter().find(|shape| takes(shape, node)) {
                fill(node, shape, catalogue);
            }
        }
        _ => {}
    }
}

fn kind_of(node: &Node) -> Option<&str> {
    node.get("type").and_then(Node::text)
}

fn fill_members(node: &mut Node, members: &[Member], catalogue: &Catalogue) {
    let Node::Object(found) = node else { return };
    for member in members {
        if let Presence::Default(text) = member.presence
            && !found.iter().any(|(name, _)| name == member.name)
        {
            // A test reads every default of the table; one that were no JSON would be absent.
            if let Ok(value) = parse(text.as_bytes()) {
                found.push((member.name.to_owned(), value));
            }
        }
    }
    for (name, value) in found {
        if let Some(member) = members.iter().find(|member| member.name == name) {
            fill(value, &member.shape, catalogue);
        }
    }
}
