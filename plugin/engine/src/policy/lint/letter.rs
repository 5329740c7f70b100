//! What is compared to the letter and was probably meant otherwise: ids with spaces around them, what other products
//! write for any method or any segment, and endpoints that no client sends as they are written. Told natively only: it
//! is a matter of writing a policy, and its texts would be a KB of the .wasm.

use super::Warnings;
use crate::policy::mistake::{entry, member, quoted};
use crate::policy::{Admins, Rule};

/// Warns of what is odd about the ids of admins.
pub(super) fn about_admins(admins: &Admins, found: &mut Warnings) {
    each(&admins.user_ids, "/admins/user_ids", |id| odd_id(id), found);
}

/// Warns of what is odd about a rule's ids, methods and endpoints.
pub(super) fn about_rule(rule: &Rule, pointer: &str, found: &mut Warnings) {
    each(&rule.methods, &member(pointer, "methods"), |method| odd_method(method), found);
    each(&rule.user_ids, &member(pointer, "user_ids"), |id| odd_id(id), found);
    let endpoints = member(pointer, "endpoints");
    each(&rule.endpoints, &endpoints, |template| odd_endpoint(template.as_str()), found);
    if !rule.replaces.is_empty() {
        each(&rule.endpoints, &endpoints, |template| odd_exception(template.as_str()), found);
    }
}

fn each<T>(entries: &[T], pointer: &str, odd: impl Fn(&T) -> Option<String>, found: &mut Warnings) {
    for (index, value) in entries.iter().enumerate() {
        if let Some(text) = odd(value) {
            found.add(entry(pointer, index), text);
        }
    }
}

fn odd_id(id: &str) -> Option<String> {
    (id.trim() != id).then(|| "has a space at an end, and ids are compared to the letter; remove it".to_owned())
}

/// Methods are in upper case here.
fn odd_method(method: &str) -> Option<String> {
    matches!(method, "*" | "ALL" | "ANY")
        .then(|| "matches only requests with a method of that name; for every method, write no \"methods\"".to_owned())
}

fn odd_endpoint(endpoint: &str) -> Option<String> {
    let is_placeholder = |part: &&str| matches!(part.as_bytes(), [b':', _, ..] | [b'<', .., b'>'] | [b'[', .., b']']);
    let part = endpoint.split('/').find(is_placeholder)?;
    let name = part.rsplit(':').next().unwrap_or(part);
    let name: String = name.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let name = if name.is_empty() { "name" } else { &name };
    Some(format!("{} stands for itself alone; for any one segment, write \"{{{name}}}\"", quoted(part)))
}

/// Of a rule that loosens: both readings of a path must match.
fn odd_exception(endpoint: &str) -> Option<String> {
    // The path percent-encode set of the URL standard, but for what no endpoint may hold.
    let is_encoded = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`');
    endpoint.bytes().any(is_encoded).then(|| {
        "clients send a part of this percent-encoded, and \"replaces\" acts only where the path as sent matches, too; \
         write \"{name}\" for that segment"
            .to_owned()
    })
}
