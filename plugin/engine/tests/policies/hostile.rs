//! Documents that mean harm, and documents that chance made (`PROPTEST_CASES=10000` searches deeper).

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::{Policy, locate};

use super::{json_files, refusal, root};

/// A valid policy that uses every member of the format which this version accepts.
const FULL: &str = r#"{"$schema": "s", "description": "d", "version": 1, "namespace": "n",
 "defaults": {"algorithm": "leaky_bucket", "strategy": {"type": "hard", "status": 503, "body": "no"}},
 "paths": "loose",
 "identity": {"user": [{"metadata": ["a", "b"]}, {"header": "X-User", "trust": "verified"}, {"cookie": "c"},
   {"jwt_claim": "sub", "header": "authorization", "trust": "unverified"}], "anonymous": "shared",
   "ip": {"from": {"x_forwarded_for": {"trusted_hops": 2}}, "ipv4_prefix": 24, "ipv6_prefix": 48}},
 "rules": [
  {"name": "a", "description": "d", "scope": "per_user", "rate": 100, "window_seconds": 60, "burst": 10,
   "algorithm": "token_bucket", "strategy": {"type": "retry_after", "body": {"k": [1, 2.5, null]}},
   "endpoints": ["/api/search", "/v1/users/{id}", "/static/*"], "methods": ["get", "POST"], "user_ids": ["u"],
   "ip_addresses": ["192.168.1.0/24", "::1"], "priority": -5, "enabled": true, "mode": "enforce", "cost": 2,
   "replaces": ["b"], "on_store_error": "deny", "local_share": 0.5},
  {"name": "b", "scope": "per_ip", "rate": 7, "window_seconds": 1, "mode": "shadow"}],
 "admins": {"user_ids": ["root"], "ip_addresses": ["10.0.0.0/8"]},
 "store": {"type": "local", "max_keys": 1024}, "headers": "both",
 "admin_api": {"path": "/.tidegate", "tokens": [], "hosts": ["h"], "max_override_minutes": 5}, "alerts": []}"#;

/// Parses, and checks what must hold of any outcome.
fn survives(text: &[u8]) {
    let Err(mistakes) = Policy::parse(text, &Catalogue::builtin()) else { return };
    assert!(!mistakes.is_empty() && mistakes.iter().count() <= 100);
    for mistake in &mistakes {
        let line = mistake.to_string();
        assert!(line.len() < 4096 && !line.contains(char::is_control), "{line}");
        let leads_somewhere = mistake.pointer.is_empty() || locate(text, &mistake.pointer).is_some();
        assert!(leads_somewhere, "{line}\n{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn the_full_policy_is_valid() {
    Policy::parse(FULL.as_bytes(), &Catalogue::builtin()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = format!("\u{feff}{FULL}");
    Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(refusal("\u{feff}\u{feff}{}").contains("no value at line 1 column 1"), "one, and first only");
    survives(text.replace("\"version\": 1", "\"version\": 2").as_bytes());
}

#[test]
fn bombs_are_refused() {
    assert!(refusal(&"[".repeat(100_000)).contains("nested too deeply"));
    assert!(refusal(&" ".repeat((1 << 20) + 1)).contains("found 1048577 bytes, allowed: at most 1048576 bytes"));
    let rules = format!("{{\"version\": 1, \"rules\": [{}0]}}", "0,".repeat(99_999));
    let messages = refusal(&rules);
    assert!(messages.starts_with("/rules: found a list of 100000, allowed: a list of at most 1000\n"), "{messages}");
    assert!(messages.ends_with("\n... and 901 more"), "{messages}");
    let members = "\"a\":0,".repeat(150_000);
    assert!(refusal(&format!("{{{members}\"version\": 1, \"rules\": []}}")).contains("a second member \"a\""));
    let long_name = format!("{{\"version\": 1, \"rules\": [], \"{}\": 0}}", "x".repeat(1 << 19));
    assert!(refusal(&long_name).len() < 1000);
}

#[test]
fn a_thousand_wordy_rules_are_linted_in_time() {
    let endpoints = |n: usize| (0..40).map(|k| format!("\"/{k}/{{{n}}}/*\"")).collect::<Vec<_>>().join(",");
    let rules = (0..1000).map(|n| {
        let scope = if n % 2 == 0 { "per_user" } else { "per_ip" };
        format!(
            "{{\"name\":\"r{n}\",\"scope\":\"{scope}\",\"rate\":1,\"window_seconds\":1,\"endpoints\":[{}]}}",
            endpoints(n)
        )
    });
    let rules: Vec<String> = rules.collect();
    let text =
        format!("{{\"version\":1,\"identity\":{{\"user\":[{{\"cookie\":\"c\"}}]}},\"rules\":[{}]}}", rules.join(","));
    assert!(text.len() < 1 << 20, "{}", text.len());
    let started = std::time::Instant::now();
    Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[test]
fn a_thousand_rules_that_all_replace_each_other() {
    let names: Vec<String> = (0..1000).map(|n| format!("\"{n:x}\"")).collect();
    let few = names.iter().take(150).cloned().collect::<Vec<_>>().join(",");
    let rules: Vec<String> = names
        .iter()
        .map(|name| {
            format!("{{\"name\":{name},\"scope\":\"global\",\"rate\":1,\"window_seconds\":1,\"replaces\":[{few}]}}")
        })
        .collect();
    let text = format!("{{\"version\":1,\"rules\":[{}]}}", rules.join(","));
    assert!(text.len() < 1 << 20, "{}", text.len());
    assert!(refusal(&text).contains("a circle"));
}

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("tests/policies/regressions.txt");
    ProptestConfig { failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

/// A valid text with a few of its bytes or words replaced, dropped or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let mut texts: Vec<String> =
        json_files(&root().join("plugin/engine/tests/bad_policies")).into_iter().map(|(_, text)| text).collect();
    texts.push(FULL.to_owned());
    let change = (any::<prop::sample::Index>(), 0..40_usize, prop::sample::select(SPLICES));
    (prop::sample::select(texts), prop::collection::vec(change, 1..4), any::<bool>()).prop_map(
        |(text, changes, full)| {
            let mut bytes = if full { FULL.as_bytes().to_vec() } else { text.into_bytes() };
            for (place, length, splice) in changes {
                let at = place.index(bytes.len() + 1);
                let end = (at + length).min(bytes.len());
                bytes.splice(at..end, splice.bytes());
            }
            bytes
        },
    )
}

/// What mutations put in: pieces that keep a text nearly valid.
const SPLICES: &[&str] = &[
    "",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "0",
    "-1",
    "1e308",
    "18446744073709551616",
    "null",
    "{}",
    "[]",
    "\"\\u0000\"",
    "\"\u{202e}\"",
    "\"a\": 1,",
    "\"type\": \"queue\",",
    "\"rate\": 0,",
    "\"/~0~1\": {},",
    "redis://x:y@z",
];

/// A valid tree with one value anywhere replaced by another.
fn replaced_value() -> impl Strategy<Value = String> {
    let values =
        ["null", "true", "-1", "0.5", "1e300", "\"\"", "\"x\"", "[]", "[[]]", "{}", "{\"type\": 1}", "[\"/\", 3]"];
    (any::<prop::sample::Index>(), prop::sample::select(values.to_vec())).prop_map(|(place, value)| {
        let mut tree: serde_json::Value = serde_json::from_str(FULL).unwrap();
        let mut pointers = Vec::new();
        pointers_of(&tree, String::new(), &mut pointers);
        *tree.pointer_mut(place.get(pointers.as_slice()).as_str()).unwrap() = serde_json::from_str(value).unwrap();
        tree.to_string()
    })
}

fn pointers_of(tree: &serde_json::Value, at: String, found: &mut Vec<String>) {
    match tree {
        serde_json::Value::Object(members) => {
            members.iter().for_each(|(name, value)| pointers_of(value, format!("{at}/{name}"), found));
        }
        serde_json::Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(index, value)| pointers_of(value, format!("{at}/{index}"), found));
        }
        _ => {}
    }
    found.push(at);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&bytes);
    }

    #[test]
    fn nearly_valid_texts(text in mutated()) {
        survives(&text);
    }

    #[test]
    fn valid_trees_with_one_odd_value(text in replaced_value()) {
        survives(text.as_bytes());
    }

    #[test]
    fn secrets_stay_secret(secret in "hunter2[ -!#-\\[\\]-~\u{7f}\u{e9}]{0,20}", shape in 0..4) {
        let secret = serde_json::to_string(&secret).unwrap();
        let secret = match shape { 0 => secret, 1 => format!("[{secret}]"), 2 => format!("{{\"a\": {secret}}}"), _ => format!("[[{secret}]]") };
        let text = format!(
            "{{\"version\": 1, \"rules\": [{{\"strategy\": {{\"type\": \"graceful\", \"forward\": {{\"headers\": {{\"x\": {secret}}}}}}}}}, \
             {{\"strategy\": {{\"type\": \"queue\", \"authority\": {secret}}}}}], \
             \"store\": {{\"type\": \"redis\", \"authority\": {secret}, \"protocol\": {secret}, \"token\": {secret}, \
             \"basic\": {{\"user\": {secret}, \"password\": {secret}}}}}, \
             \"admin_api\": {{\"tokens\": [{{\"name\": \"a\", \"role\": {secret}, \"sha256\": {secret}}}, {secret}]}}, \
             \"alerts\": [{{\"name\": \"a\", \"webhook\": {{\"authority\": {secret}, \"path\": {secret}, \"token\": {secret}}}}}]}}"
        );
        prop_assert!(!refusal(&text).contains("hunter2"), "{}", refusal(&text));
        survives(text.as_bytes());
    }
}
