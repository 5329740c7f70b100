//! One named bad policy for each mistake, with the messages it draws beside it.

use super::{golden, json_files, refusal, root};
use tidegate_engine::policy::locate;

fn bad_policies() -> Vec<(String, String)> {
    json_files(&root().join("plugin/engine/tests/bad_policies"))
}

#[test]
fn each_mistake_draws_its_message() {
    for (name, text) in bad_policies() {
        let expected = root().join(format!("plugin/engine/tests/bad_policies/{name}.txt"));
        golden(&expected, &format!("{}\n", refusal(&text)));
    }
}

#[test]
fn no_message_shows_a_secret() {
    for (name, text) in bad_policies() {
        let messages = refusal(&text);
        for secret in ["hunter2", "12345", "0011223344"] {
            assert!(!messages.contains(secret), "{name}: {messages}");
        }
    }
}

#[test]
fn every_pointer_leads_somewhere() {
    for (name, text) in bad_policies() {
        for mistake in &super::parse(&text).unwrap_err() {
            assert!(locate(text.as_bytes(), &mistake.pointer).is_some(), "{name}: {mistake}");
        }
    }
}
