//! Checks a document against the format's table and reports everything that does not fit: kinds, ranges, unknown,
//! missing and duplicate members. What the table cannot say is checked by the files that build the policy.

use std::collections::BTreeSet;

use super::fits::{allowed, by_member, fits, required, sized, takes, words};
use super::json::Node;
use super::mistake::{Mistake, Mistakes, entry, member, quoted, quoted_name, shown};
use super::shape::{Kind, Member, Presence, Shape};
use super::store::redis_url;
use super::text;
use crate::catalogue::Catalogue;

/// Adds to `mistakes` whatever in `node` does not fit `shape`.
pub(super) fn check(node: &Node, shape: &Shape, catalogue: &Catalogue, mistakes: &mut Mistakes) {
    Walk { catalogue, mistakes }.value(node, shape, "", Secrecy::None);
}

/// How much of a value that does not fit may be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    /// All of it.
    None,
    /// No text, unless it is nearly one of the words that may stand there: beside a secret stands what may be that
    /// secret in the wrong place.
    Beside,
    /// Only what kind of value it is.
    Secret,
}

impl Secrecy {
    /// That of an object's members which are no secrets themselves.
    fn among(members: &[Member]) -> Self {
        if members.iter().any(|member| member.is_secret) { Self::Beside } else { Self::None }
    }
}

struct Walk<'a> {
    catalogue: &'a Catalogue,
    mistakes: &'a mut Mistakes,
}

impl Walk<'_> {
    fn value(&mut self, node: &Node, shape: &Shape, pointer: &str, secrecy: Secrecy) {
        if let Some(mistake) = redis_url(node, pointer) {
            return self.mistakes.add(mistake);
        }
        match (shape, node) {
            (Shape::List { of, min, max }, Node::List(entries)) => {
                if entries.len() < *min || entries.len() > *max {
                    let found = format!("a list of {}", entries.len());
                    self.mistakes.add(Mistake::new(pointer, found, sized(*min, *max)));
                }
                for (index, value) in entries.iter().enumerate().take(*max) {
                    self.value(value, of, &entry(pointer, index), secrecy);
                }
            }
            (Shape::Object(members), Node::Object(found)) => self.object(found, members, false, pointer),
            (Shape::Typed(kinds), Node::Object(found)) => {
                let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
                let members = |name: &str| kinds.iter().find(|kind| kind.name == name).map(|kind| kind.members);
                self.typed(node, found, &names, members, (pointer, Secrecy::Beside));
            }
            (Shape::Strategy, Node::Object(found)) => {
                let catalogue = self.catalogue;
                let members = |name: &str| catalogue.strategy(name).map(|kind| kind.options);
                self.typed(node, found, &catalogue.strategy_names(), members, (pointer, Secrecy::None));
            }
            (Shape::ByMember(kinds), Node::Object(found)) => match by_member(kinds, node) {
                Some(kind) => self.object(found, kind.members, false, pointer),
                None => self.unknown_kind(found, kinds, pointer),
            },
            (Shape::Headers { max }, Node::Object(found)) => self.headers(found, *max, pointer),
            (Shape::Content, Node::Object(_) | Node::List(_)) => self.duplicates_below(node, pointer),
            (Shape::Strategy, Node::Text(name)) => {
                self.plain(node, shape, pointer, secrecy);
                self.bare_strategy(name, pointer);
            }
            (Shape::Either(shapes), Node::Object(_) | Node::Text(_)) => {
                if let Some(inner) = shapes.iter().find(|shape| takes(shape, node)) {
                    let before = self.mistakes.spare(pointer);
                    self.value(node, inner, pointer, secrecy);
                    if before && node.text().is_some() {
                        self.mistakes.refine(pointer, allowed(shape, self.catalogue));
                    }
                }
            }
            _ => self.plain(node, shape, pointer, secrecy),
        }
    }

    fn plain(&mut self, node: &Node, shape: &Shape, pointer: &str, secrecy: Secrecy) {
        if let Err(more) = fits(node, shape, self.catalogue) {
            self.wrong(node, shape, pointer, secrecy);
            self.mistakes.refine(pointer, more);
        }
    }

    /// A strategy that needs to be told something is more than its name.
    fn bare_strategy(&mut self, name: &str, pointer: &str) {
        let needed = self.catalogue.strategy(name).map(|kind| required(kind.options)).unwrap_or_default();
        if !needed.is_empty() {
            let allowed = format!("an object with \"type\": {} and {}", quoted(name), needed.join(", "));
            self.mistakes.add(Mistake::new(pointer, quoted(name), allowed));
        }
    }

    fn object(&mut self, found: &[(String, Node)], members: &[Member], has_type: bool, pointer: &str) {
        self.duplicates(found, pointer);
        let among = Secrecy::among(members);
        for (name, value) in found {
            let place = member(pointer, name);
            match members.iter().find(|member| member.name == name) {
                Some(member) => {
                    let secrecy = if member.is_secret { Secrecy::Secret } else { among };
                    self.value(value, &member.shape, &place, secrecy);
                }
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
        names: &[&str],
        members: impl Fn(&str) -> Option<&'static [Member]>,
        (pointer, secrecy): (&str, Secrecy),
    ) {
        let Some(kind) = node.get("type") else {
            let allowed = format!("\"type\": {}", names.join(", "));
            return self.mistakes.add(Mistake::new(pointer, "no \"type\"", allowed));
        };
        if let Some(members) = kind.text().and_then(members) {
            return self.object(found, members, true, pointer);
        }
        self.not_one_of(kind, names, names.join(", "), &member(pointer, "type"), secrecy);
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
        let found = format!("an unknown member {}", quoted_name(name));
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
                let found = format!("the header name {}", quoted_name(name));
                self.mistakes.add(Mistake::new(&place, found, text::TOKEN.allowed));
            }
            // A header may carry a credential.
            self.value(value, &Shape::Text(text::HEADER_VALUE), &place, Secrecy::Secret);
        }
    }

    fn duplicates(&mut self, found: &[(String, Node)], pointer: &str) {
        let mut seen = BTreeSet::new();
        for (name, _) in found {
            if !seen.insert(name) {
                let found = format!("a second member {}", quoted_name(name));
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

    fn wrong(&mut self, node: &Node, shape: &Shape, pointer: &str, secrecy: Secrecy) {
        let holds_parts = matches!(
            shape,
            Shape::List { .. } | Shape::Object(_) | Shape::Typed(_) | Shape::ByMember(_) | Shape::Headers { .. }
        );
        let allowed = allowed(shape, self.catalogue);
        if holds_parts {
            // What stands where an object with secrets belongs may be such a secret.
            return self.mistakes.add(Mistake::new(pointer, node.kind(), allowed));
        }
        self.not_one_of(node, &words(shape, self.catalogue), allowed, pointer, secrecy);
    }

    /// A value that is none of some words, or does not fit for another reason where there are none.
    fn not_one_of(&mut self, node: &Node, words: &[&str], allowed: String, pointer: &str, secrecy: Secrecy) {
        let mut mistake = Mistake::new(pointer, "", allowed);
        if let (Node::Text(text), Secrecy::None | Secrecy::Beside) = (node, secrecy) {
            mistake = mistake.suggesting(text, words.iter().copied());
        }
        mistake.found = match (node, secrecy) {
            (Node::Text(_), Secrecy::Beside) if mistake.suggestion.is_some() => shown(node),
            (Node::Text(_), Secrecy::Beside | Secrecy::Secret) => "a string that does not fit (not shown)".to_owned(),
            (_, Secrecy::Secret) => node.kind().to_owned(),
            _ => shown(node),
        };
        self.mistakes.add(mistake);
    }
}

#[cfg(test)]
mod tests;
