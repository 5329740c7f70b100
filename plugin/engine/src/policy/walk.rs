//! Checks a document against the format's table and reports everything that does not fit: kinds, ranges, unknown,
//! missing and duplicate members. What the table cannot say is checked by the files that build the policy.

use std::collections::BTreeSet;

use super::json::Node;
use super::mistake::{Mistake, Mistakes, entry, member, quoted, shown};
use super::not_built_yet::redis_url;
use super::shape::{Kind, Member, Presence, Shape};
use super::text;
use crate::catalogue::Catalogue;

/// Adds to `mistakes` whatever in `node` does not fit `shape`.
pub(super) fn check(node: &Node, shape: &Shape, catalogue: &Catalogue, mistakes: &mut Mistakes) {
    Walk { catalogue, mistakes }.value(node, shape, "", false);
}

struct Walk<'a> {
    catalogue: &'a Catalogue,
    mistakes: &'a mut Mistakes,
}

impl Walk<'_> {
    fn value(&mut self, node: &Node, shape: &Shape, pointer: &str, is_secret: bool) {
        if let Some(mistake) = redis_url(node, pointer) {
            return self.mistakes.add(mistake);
        }
        match (shape, node) {
            (Shape::List { of, min, max }, Node::List(entries)) => {
                if entries.len() < *min || entries.len() > *max {
                    let found = format!("a list of {}", entries.len());
                    self.mistakes.add(Mistake::new(pointer, found, allowed(shape, self.catalogue)));
                }
                for (index, value) in entries.iter().enumerate().take(*max) {
                    self.value(value, of, &entry(pointer, index), is_secret);
                }
            }
            (Shape::Object(members), Node::Object(found)) => self.object(found, members, false, pointer),
            (Shape::Typed(kinds), Node::Object(found)) => {
                let names = kinds.iter().map(|kind| kind.name).collect();
                let members = |name: &str| kinds.iter().find(|kind| kind.name == name).map(|kind| kind.members);
                self.typed(node, found, names, members, pointer);
            }
            (Shape::Strategy, Node::Object(found)) => {
                let catalogue = self.catalogue;
                let members = |name: &str| catalogue.strategy(name).map(|kind| kind.options);
                self.typed(node, found, catalogue.strategy_names(), members, pointer);
            }
            (Shape::ByMember(kinds), Node::Object(found)) => match by_member(kinds, node) {
                Some(kind) => self.object(found, kind.members, false, pointer),
                None => self.unknown_kind(found, kinds, pointer),
            },
            (Shape::Headers { max }, Node::Object(found)) => self.headers(found, *max, pointer),
            (Shape::Content, Node::Object(_) | Node::List(_)) => self.duplicates_below(node, pointer),
            (Shape::Either(shapes), _) => match shapes.iter().find(|shape| takes(shape, node)) {
                Some(shape) => self.value(node, shape, pointer, is_secret),
                None => self.wrong(node, shape, pointer, is_secret),
            },
            _ => {
                if let Err(more) = fits(node, shape, self.catalogue) {
                    self.wrong(node, shape, pointer, is_secret);
                    self.mistakes.refine(pointer, more);
                }
            }
        }
    }

    fn object(&mut self, found: &[(String, Node)], members: &[Member], has_type: bool, pointer: &str) {
        self.duplicates(found, pointer);
        for (name, value) in found {
            let place = member(pointer, name);
            match members.iter().find(|member| member.name == name) {
                Some(member) => self.value(value, &member.shape, &place, member.is_secret),
                None if has_type && name == "type" => {}
                None => {
                    let names: Vec<&str> = members.iter().map(|member| member.name).collect();
                    self.unknown_member(name, value, names, &place);
                }
            }
        }
        for member in members {
            let is_there = found.iter().any(|(name, _)| name == member.name);
            if matches!(member.presence, Presence::Required) && !is_there {
                let allowed = format!("\"{}\": {}", member.name, allowed(&member.shape, self.catalogue));
                self.mistakes.add(Mistake::new(pointer, format!("no \"{}\"", member.name), allowed));
            }
        }
    }

    fn typed(
        &mut self,
        node: &Node,
        found: &[(String, Node)],
        names: Vec<&'static str>,
        members: impl Fn(&str) -> Option<&'static [Member]>,
        pointer: &str,
    ) {
        let words = || format!("\"type\": {}", names.join(", "));
        match node.get("type") {
            None => self.mistakes.add(Mistake::new(pointer, "no \"type\"", words())),
            Some(Node::Text(name)) => match members(name) {
                Some(members) => self.object(found, members, true, pointer),
                None => {
                    let mistake = Mistake::new(&member(pointer, "type"), quoted(name), names.join(", "));
                    self.mistakes.add(mistake.suggesting(name, names));
                }
            },
            Some(other) => {
                self.mistakes.add(Mistake::new(&member(pointer, "type"), shown(other), names.join(", ")));
            }
        }
    }

    fn unknown_kind(&mut self, found: &[(String, Node)], kinds: &[Kind], pointer: &str) {
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        self.duplicates(found, pointer);
        match found {
            [] => {
                let allowed = format!("an object with one of {}", names.join(", "));
                self.mistakes.add(Mistake::new(pointer, "an empty object", allowed));
            }
            _ => found.iter().for_each(|(name, value)| {
                let known = |kind: &Kind| kind.members.iter().any(|member| member.name == name);
                if !kinds.iter().any(known) {
                    self.unknown_member(name, value, names.clone(), &member(pointer, name));
                }
            }),
        }
        if self.mistakes.spare(pointer) {
            let allowed = format!("an object with one of {}", names.join(", "));
            self.mistakes.add(Mistake::new(pointer, "an object with none of them", allowed));
        }
    }

    fn unknown_member(&mut self, name: &str, value: &Node, names: Vec<&str>, place: &str) {
        if let Some(mistake) = redis_url(value, place) {
            return self.mistakes.add(mistake);
        }
        let found = format!("an unknown member {}", quoted(name));
        let mistake = Mistake::new(place, found, names.join(", "));
        let mistake = if self.mistakes.is_full() { mistake } else { mistake.suggesting(name, names) };
        self.mistakes.add(mistake);
    }

    fn headers(&mut self, found: &[(String, Node)], max: usize, pointer: &str) {
        self.duplicates(found, pointer);
        if found.len() > max {
            let found = format!("{} headers", found.len());
            self.mistakes.add(Mistake::new(pointer, found, format!("at most {max}")));
        }
        for (name, value) in found.iter().take(max) {
            let place = member(pointer, name);
            let as_node = Node::Text(name.clone());
            if fits(&as_node, &Shape::Text(text::TOKEN), self.catalogue).is_err() {
                let found = format!("the header name {}", quoted(name));
                self.mistakes.add(Mistake::new(&place, found, text::TOKEN.allowed));
            }
            // A header may carry a credential.
            self.value(value, &Shape::Text(text::HEADER_VALUE), &place, true);
        }
    }

    fn duplicates(&mut self, found: &[(String, Node)], pointer: &str) {
        let mut seen = BTreeSet::new();
        for (name, _) in found {
            if !seen.insert(name) {
                let found = format!("a second member {}", quoted(name));
                self.mistakes.add(Mistake::new(&member(pointer, name), found, "each member once"));
            }
        }
    }

    fn duplicates_below(&mut self, node: &Node, pointer: &str) {
        self.duplicates(node.members(), pointer);
        for (name, value) in node.members() {
            self.duplicates_below(value, &member(pointer, name));
        }
        for (index, value) in node.entries().iter().enumerate() {
            self.duplicates_below(value, &entry(pointer, index));
        }
    }

    fn wrong(&mut self, node: &Node, shape: &Shape, pointer: &str, is_secret: bool) {
        let holds_parts = matches!(
            shape,
            Shape::List { .. } | Shape::Object(_) | Shape::Typed(_) | Shape::ByMember(_) | Shape::Headers { .. }
        );
        // What stands where an object with secrets belongs may be such a secret.
        let found = match node {
            Node::Text(_) if is_secret => "a string that does not fit (not shown)".to_owned(),
            _ if is_secret || holds_parts => node.kind().to_owned(),
            _ => shown(node),
        };
        let mistake = Mistake::new(pointer, found, allowed(shape, self.catalogue));
        self.mistakes.add(match node {
            Node::Text(text) if !is_secret => mistake.suggesting(text, words(shape, self.catalogue)),
            _ => mistake,
        });
    }
}

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
fn fits(node: &Node, shape: &Shape, catalogue: &Catalogue) -> Result<(), String> {
    let fitting = match (shape, node) {
        (Shape::Integer { min, max }, Node::Integer(number)) => number >= min && number <= max,
        (Shape::Number { above, up_to }, Node::Integer(_) | Node::Number(_)) => {
            node.number().is_some_and(|number| number > *above && number <= *up_to)
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

/// The words that a string of this shape may be; empty where it is not one of some words.
fn words(shape: &Shape, catalogue: &Catalogue) -> Vec<&'static str> {
    match shape {
        Shape::OneOf(words) => words.iter().map(|(word, _)| *word).collect(),
        Shape::Algorithm => catalogue.algorithm_names(),
        Shape::Strategy => catalogue.strategy_names(),
        _ => Vec::new(),
    }
}

/// What a message says is allowed.
fn allowed(shape: &Shape, catalogue: &Catalogue) -> String {
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
        Shape::List { min: 0, max, .. } => format!("a list of at most {max}"),
        Shape::List { min, max, .. } => format!("a list of {min} to {max}"),
        Shape::Object(_) => "an object".to_owned(),
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
