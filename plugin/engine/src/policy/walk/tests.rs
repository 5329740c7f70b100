//! No message of a check tells a secret, wherever in an object with secrets it was written.

use proptest::prelude::*;

use super::*;
use crate::policy::format::DOCUMENT;

/// The members of every object in the format that holds a secret.
fn objects_with_secrets() -> Vec<&'static [Member]> {
    let mut found = Vec::new();
    collect(&DOCUMENT, &Catalogue::builtin(), &mut found);
    found
}

fn collect(shape: &'static Shape, catalogue: &Catalogue, found: &mut Vec<&'static [Member]>) {
    let mut below = |members: &'static [Member]| {
        if Secrecy::among(members) == Secrecy::Beside {
            found.push(members);
        }
        for member in members {
            collect(&member.shape, catalogue, found);
        }
    };
    match shape {
        Shape::Object(members) => below(members),
        Shape::Typed(kinds) | Shape::ByMember(kinds) => kinds.iter().for_each(|kind| below(kind.members)),
        Shape::Strategy => catalogue.strategies().iter().for_each(|kind| below(kind.options)),
        Shape::List { of, .. } => collect(of, catalogue, found),
        Shape::Either(shapes) => shapes.iter().for_each(|shape| collect(shape, catalogue, found)),
        _ => {}
    }
}

/// What is told of an object whose members all hold this value.
fn told(members: &[Member], shape: &Shape, value: &Node) -> String {
    let with_type = [("type".to_owned(), value.clone())];
    let object = members.iter().map(|member| (member.name.to_owned(), value.clone())).chain(with_type).collect();
    let mut mistakes = Mistakes::default();
    check(&Node::Object(object), shape, &Catalogue::builtin(), &mut mistakes);
    assert!(!mistakes.is_empty());
    mistakes.to_string()
}

#[test]
fn the_format_has_objects_with_secrets() {
    let names: Vec<&str> = objects_with_secrets()
        .into_iter()
        .flat_map(|members| members.iter().filter(|member| member.is_secret).map(|member| member.name))
        .collect();
    for name in ["token", "password", "sha256"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}

#[test]
fn what_is_nearly_a_word_is_told_beside_a_secret_too() {
    let redis =
        r#"{"type": "redis", "cluster": "c", "authority": "a", "protocol": "upstah", "token": "t", "timeout_ms": 0}"#;
    let store = DOCUMENT.member("store");
    let mut mistakes = Mistakes::default();
    check(&crate::policy::json::parse(redis.as_bytes()).unwrap(), store, &Catalogue::builtin(), &mut mistakes);
    let told = mistakes.to_string();
    assert!(
        told.contains("/protocol: found \"upstah\", allowed: upstash, webdis; did you mean \"upstash\"?"),
        "{told}"
    );
    assert!(told.contains("/timeout_ms: found 0, "), "{told}");
}

proptest! {
    #[test]
    fn a_secret_beside_its_place_is_not_told(
        before in prop::sample::select(vec!["", "default:", "Bearer ", "services/T0/B0/", "/", "https://u:", "a\n"]),
        after in "[ -~\u{e9}]{0,20}",
        shape in 0..3,
    ) {
        let secret = Node::Text(format!("{before}hunter2{after}"));
        let value = match shape {
            0 => secret,
            1 => Node::List(vec![secret]),
            _ => Node::Object(vec![("a".to_owned(), secret)]),
        };
        for members in objects_with_secrets() {
            let told = told(members, &Shape::Object(members), &value);
            prop_assert!(!told.contains("hunter2"), "{}", told);
        }
        let told = told(&[], DOCUMENT.member("store"), &value);
        prop_assert!(!told.contains("hunter2"), "{}", told);
    }

    #[test]
    fn what_follows_the_colon_of_a_header_name_is_not_told(
        name in "[A-Za-z-]{1,20} ?", after in "[ -~\u{e9}\n]{0,20}", twice in any::<bool>(),
    ) {
        let header = (format!("{name}:{after}hunter2"), Node::Text("hunter2\n".to_owned()));
        let headers = vec![header; if twice { 2 } else { 1 }];
        let mut mistakes = Mistakes::default();
        check(&Node::Object(headers), &Shape::Headers { max: 32 }, &Catalogue::builtin(), &mut mistakes);
        let told = mistakes.to_string();
        prop_assert!(told.contains(name.as_str()) && !told.contains("hunter2"), "{}", told);
    }
}

impl Shape {
    /// The shape of a member of an object.
    fn member(&'static self, name: &str) -> &'static Self {
        let Self::Object(members) = self else { panic!("no object") };
        &members.iter().find(|member| member.name == name).unwrap().shape
    }
}
