//! The policy format's table as a JSON Schema (draft 2020-12), so that an editor completes and checks a policy.
//! What no table can say is missing here, too: the schema accepts some policies that `Policy::parse` refuses.

use super::format::DOCUMENT;
use super::json::{Node, parse};
use super::shape::{Kind, Member, Presence, Shape, TextKind};
use super::text;
use crate::catalogue::{Catalogue, StrategyKind};

/// The schema of policies that use this catalogue, as JSON text with a newline at its end.
pub fn schema_json(catalogue: &Catalogue) -> String {
    let mut members = vec![
        ("$schema".to_owned(), word("https://json-schema.org/draft/2020-12/schema")),
        ("title".to_owned(), word("Tidegate policy, version 1")),
    ];
    let Node::Object(document) = shape(&DOCUMENT, catalogue) else { return String::new() };
    members.extend(document);
    members.push(("$defs".to_owned(), object([("strategy", strategy(catalogue))])));
    let mut out = String::new();
    write(&Node::Object(members), 0, &mut out);
    out.push('\n');
    out
}

fn shape(described: &Shape, catalogue: &Catalogue) -> Node {
    match described {
        Shape::Integer { min, max } => {
            object([("type", word("integer")), ("minimum", Node::Integer(*min)), ("maximum", Node::Integer(*max))])
        }
        Shape::Number { above, up_to } => object([
            ("type", word("number")),
            ("exclusiveMinimum", Node::Integer(*above)),
            ("maximum", Node::Integer(*up_to)),
        ]),
        Shape::Boolean => object([("type", word("boolean"))]),
        Shape::Text(kind) => string(kind),
        Shape::OneOf(words) => object([
            ("enum", Node::List(words.iter().map(|(name, _)| word(name)).collect())),
            // Not of the standard, but editors show it.
            ("enumDescriptions", Node::List(words.iter().map(|(_, doc)| word(doc)).collect())),
        ]),
        Shape::List { of, min, max } => object([
            ("type", word("array")),
            ("items", shape(of, catalogue)),
            ("minItems", count(*min)),
            ("maxItems", count(*max)),
        ]),
        Shape::Object(members) => object_of(None, members, catalogue),
        Shape::Typed(kinds) => {
            let kinds = kinds.iter().map(|kind| described_kind(kind, catalogue, true));
            object([("oneOf", Node::List(kinds.collect()))])
        }
        Shape::ByMember(kinds) => {
            let kinds = kinds.iter().map(|kind| described_kind(kind, catalogue, false));
            object([("oneOf", Node::List(kinds.collect()))])
        }
        Shape::Headers { max } => object([
            ("type", word("object")),
            ("propertyNames", string(text::TOKEN)),
            ("additionalProperties", string(text::HEADER_VALUE)),
            ("maxProperties", count(*max)),
        ]),
        Shape::Either(shapes) => {
            object([("oneOf", Node::List(shapes.iter().map(|each| shape(each, catalogue)).collect()))])
        }
        Shape::Content => object([("type", Node::List(["string", "object", "array"].map(word).to_vec()))]),
        Shape::Algorithm => object([("enum", Node::List(catalogue.algorithm_names().into_iter().map(word).collect()))]),
        Shape::Strategy => object([("$ref", word("#/$defs/strategy"))]),
    }
}

/// A strategy's name, or an object of its kind.
fn strategy(catalogue: &Catalogue) -> Node {
    let kinds = catalogue.strategies();
    let needs_nothing =
        |kind: &&&StrategyKind| !kind.options.iter().any(|option| matches!(option.presence, Presence::Required));
    let bare: Vec<_> = kinds.iter().filter(needs_nothing).collect();
    let names = Node::List(bare.iter().map(|kind| word(kind.name)).collect());
    let docs = Node::List(bare.iter().map(|kind| word(kind.doc)).collect());
    let mut choices = vec![object([("enum", names), ("enumDescriptions", docs)])];
    choices.extend(kinds.iter().map(|kind| with_doc(object_of(Some(kind.name), kind.options, catalogue), kind.doc)));
    object([("oneOf", Node::List(choices))])
}

fn described_kind(kind: &Kind, catalogue: &Catalogue, has_type: bool) -> Node {
    with_doc(object_of(has_type.then_some(kind.name), kind.members, catalogue), kind.doc)
}

fn object_of(kind: Option<&str>, members: &[Member], catalogue: &Catalogue) -> Node {
    let mut properties = Vec::new();
    let mut required = Vec::new();
    if let Some(kind) = kind {
        properties.push(("type".to_owned(), object([("const", word(kind))])));
        required.push(word("type"));
    }
    for member in members {
        let mut described = with_doc(shape(&member.shape, catalogue), member.doc);
        match (member.presence, &mut described) {
            (Presence::Required, _) => required.push(word(member.name)),
            (Presence::Default(text), Node::Object(parts)) => {
                parts.extend(parse(text.as_bytes()).ok().map(|value| ("default".to_owned(), value)));
            }
            _ => {}
        }
        properties.push((member.name.to_owned(), described));
    }
    object([
        ("type", word("object")),
        ("properties", Node::Object(properties)),
        ("required", Node::List(required)),
        ("additionalProperties", Node::Boolean(false)),
    ])
}

fn string(kind: &TextKind) -> Node {
    let mut parts = vec![("type", word("string")), ("minLength", count(kind.min)), ("maxLength", count(kind.max))];
    if !kind.pattern.is_empty() {
        parts.push(("pattern", word(kind.pattern)));
    }
    object(parts)
}

fn with_doc(mut node: Node, doc: &str) -> Node {
    if let Node::Object(parts) = &mut node {
        parts.insert(0, ("description".to_owned(), word(doc)));
    }
    node
}

fn object<'a>(parts: impl IntoIterator<Item = (&'a str, Node)>) -> Node {
    Node::Object(parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn word(text: &str) -> Node {
    Node::Text(text.to_owned())
}

fn count(number: usize) -> Node {
    Node::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Writes objects and lists of objects over several lines, everything else in one.
fn write(node: &Node, depth: usize, out: &mut String) {
    let inner = depth.saturating_add(1);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(core::iter::repeat_n("  ", depth));
    };
    match node {
        Node::Object(members) if !members.is_empty() => {
            for (index, (name, value)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "{" } else { "," });
                line(out, inner);
                out.push_str(&word(name).to_json());
                out.push_str(": ");
                write(value, inner, out);
            }
            line(out, depth);
            out.push('}');
        }
        Node::List(entries) if entries.iter().any(|entry| !entry.members().is_empty()) => {
            for (index, entry) in entries.iter().enumerate() {
                out.push_str(if index == 0 { "[" } else { "," });
                line(out, inner);
                write(entry, inner, out);
            }
            line(out, depth);
            out.push(']');
        }
        _ => out.push_str(&node.to_json()),
    }
}
