//! Edits change what they are about, and not a byte more.

use serde_json::json;

use super::*;

fn rule() -> Members {
    vec![("name", json!("new")), ("rate", json!(5)), ("endpoints", json!(["/a", "/b"]))]
}

#[test]
fn a_rule_is_laid_out_as_its_neighbour() {
    for (before, after) in [
        ("{\"rules\": []}", "{\"rules\": [\n  {NEW}\n]}"),
        ("{\n  \"rules\": [ ]\n}\n", "{\n  \"rules\": [\n    {NEW}\n  ]\n}\n"),
        ("{\"rules\":[{\"name\":\"a\"}]}", "{\"rules\":[{\"name\":\"a\"}, {NEW}]}"),
        (
            "{\"rules\": [{\"name\":\"a\"},{\"name\":\"b\"}], \"x\" : 1 }",
            "{\"rules\": [{\"name\":\"a\"},{\"name\":\"b\"},{NEW}], \"x\" : 1 }",
        ),
        (
            "{\n\t\"rules\": [\n\t\t{\"name\": \"a\"},\n\t\t{ \"name\": \"b\" }\n\t]\n}",
            "{\n\t\"rules\": [\n\t\t{\"name\": \"a\"},\n\t\t{ \"name\": \"b\" },\n\t\t{NEW}\n\t]\n}",
        ),
    ] {
        let new = "\"name\": \"new\", \"rate\": 5, \"endpoints\": [\"/a\", \"/b\"]";
        assert_eq!(add(before, &rule()).unwrap(), after.replace("NEW", new), "{before}");
    }
    let before = "{\r\n  \"rules\": [\r\n    {\r\n      \"name\": \"a\"\r\n    }\r\n  ]\r\n}\r\n";
    let after = "{\r\n  \"rules\": [\r\n    {\r\n      \"name\": \"a\"\r\n    },\r\n    {\r\n      \"name\": \"new\",\r\n      \
                 \"rate\": 5,\r\n      \"endpoints\": [\"/a\", \"/b\"]\r\n    }\r\n  ]\r\n}\r\n";
    assert_eq!(add(before, &rule()).unwrap(), after);
}

#[test]
fn a_rule_is_removed_with_its_comma_and_its_line() {
    let text =
        "{\"rules\": [\n  {\"name\": \"a\"},\n  {\"name\": \"b\"},\n  {\"name\": \"c\"}\n], \"x\": {\"rules\": 1}}";
    let without = |name: &str| remove(text, name).unwrap();
    assert_eq!(without("a"), text.replace("{\"name\": \"a\"},\n  ", ""));
    assert_eq!(without("b"), text.replace(",\n  {\"name\": \"b\"}", ""));
    assert_eq!(without("c"), text.replace(",\n  {\"name\": \"c\"}", ""));
    assert_eq!(remove("{\"rules\": [ {\"name\": \"a\"} ]}", "a").unwrap(), "{\"rules\": []}");
    assert_eq!(remove(text, "d"), None);
}

#[test]
fn adding_and_removing_gives_the_same_text_again() {
    for text in [
        include_str!("../../../../../policies/default.json"),
        include_str!("../../../../../policies/user-tiers.json"),
        include_str!("../../../../../policies/login-protection.json"),
    ] {
        let added = add(text, &rule()).unwrap();
        assert!(has(&added, "new") && !has(text, "new"));
        assert_eq!(remove(&added, "new").unwrap(), text);
    }
}

#[test]
fn a_rule_is_replaced_in_its_place() {
    let text = "{\"rules\": [{\"name\": \"new\", \"rate\":1},  {\"name\": \"b\"}]}";
    let expected =
        "{\"rules\": [{\"name\": \"new\", \"rate\": 5, \"endpoints\": [\"/a\", \"/b\"]},  {\"name\": \"b\"}]}";
    assert_eq!(replace(text, "new", &rule()).unwrap(), expected);
    assert_eq!(replace(text, "other", &rule()), None);
}
