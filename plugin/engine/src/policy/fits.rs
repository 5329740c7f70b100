//! Whether a single value fits its shape, and how a message says what would. Walking through a document is `walk`'s.

use super::json::Node;
use super::mistake::quoted;
use super::shape::{Kind, Member, Presence, Shape};
use crate::catalogue::Catalogue;

/// The kind that an object is of, by the members it has.
pub(super) fn by_member<'a>(kinds: &'a [Kind], node: &Node) -> Option<&'a Kind> {
    kinds.iter().find(|kind| node.get(kind.name).is_some())
}

/// Whether the kind of value is one that the shape has.
pub(super) fn takes(shape: &Shape, node: &Node) -> bool {
    match node {
        Node::Object(_) => matches!(shape, Shape::Object(_)),
        Node::Text(_) => matches!(shape, Shape::OneOf(_)),
        _ => false,
    }
}

/// Whether a value without parts fits. An `Err` that is not empty says more precisely what is allowed.
pub(super) fn fits(node: &Node, shape: &Shape, catalogue: &Catalogue) -> Result<(), String> {
    let fitting = match (shape, node) {
        (Shape::Integer { min, max }, Node::Integer(number)) => number >= min && number <= max,
        (Shape::Number { above, up_to }, Node::Integer(_) | Node::Number(_)) => {
            let millionths = |bound: i64| bound.saturating_mul(1_000_000);
            node.millionths().is_some_and(|number| number > millionths(*above) && number <= millionths(*up_to))
        }
        (Shape::Boolean, Node::Boolean(_)) | (Shape::Content, Node::Text(_)) => true,
        (Shape::Text(kind), Node::Text(text)) => {
            let length = text.chars().count();
            if length >= kind.min && length <= kind.max {
                return (kind.check)(text);
            }
            false
        }
        (Shape::OneOf(_) | Shape::Algorithm | Shape::Strategy, Node::Text(text)) => {
            words(shape, catalogue).contains(&text.as_str())
        }
        _ => false,
    };
    if fitting { Ok(()) } else { Err(String::new()) }
}

/// The names, in quotes, of the members that must be there.
pub(super) fn required(members: &[Member]) -> Vec<String> {
    let required = members.iter().filter(|member| matches!(member.presence, Presence::Required));
    required.map(|member| quoted(member.name)).collect()
}

/// The words that a string of this shape may be; empty where it is not one of some words.
pub(super) fn words(shape: &Shape, catalogue: &Catalogue) -> Vec<&'static str> {
    match shape {
        Shape::OneOf(words) => words.iter().map(|(word, _)| *word).collect(),
        Shape::Algorithm => catalogue.algorithm_names(),
        Shape::Strategy => catalogue.strategy_names(),
        _ => Vec::new(),
    }
}

/// How many entries a list may have.
pub(super) fn sized(min: usize, max: usize) -> String {
    if min == 0 { format!("a list of at most {max}") } else { format!("a list of {min} to {max}") }
}

/// What a message says is allowed.
pub(super) fn allowed(shape: &Shape, catalogue: &Catalogue) -> String {
    match shape {
        Shape::Integer { min, max } if min == max => min.to_string(),
        Shape::Integer { min, max } => format!("a whole number {min} to {max}, in digits"),
        Shape::Number { above, up_to } => format!("a number above {above}, up to {up_to}"),
        Shape::Boolean => "true, false".to_owned(),
        Shape::Text(kind) => kind.allowed.to_owned(),
        Shape::OneOf(_) | Shape::Algorithm => words(shape, catalogue).join(", "),
        Shape::Strategy => {
            format!("{}, or an object with \"type\" and options", words(shape, catalogue).join(", "))
        }
        Shape::List { of, min, max } => format!("{}, each {}", sized(*min, *max), allowed(of, catalogue)),
        Shape::Object(members) => match required(members).as_slice() {
            [] => "an object".to_owned(),
            names => format!("an object with {}", names.join(", ")),
        },
        Shape::Typed(kinds) => {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
            format!("an object with \"type\": {}", names.join(", "))
        }
        Shape::ByMember(kinds) => {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
            format!("an object with one of {}", names.join(", "))
        }
        Shape::Headers { .. } => "an object of header names with their values".to_owned(),
        Shape::Either(shapes) => {
            let each: Vec<String> = shapes.iter().map(|shape| allowed(shape, catalogue)).collect();
            each.join(" or ")
        }
        Shape::Content => "a string, an object or a list".to_owned(),
    }
}
