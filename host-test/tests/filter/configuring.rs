//! Taking, refusing and changing policies.

use crate::tidegate::{
    assert_nothing_died, from, messages, module_or_skip, passed, passing, plugin, policy, rule, serve, with_settings,
};
use tidegate_host_test::{Host, LogLevel, Request, Thread};

#[test]
fn a_bad_policy_is_refused_at_start_with_every_mistake_in_the_log() {
    let module = module_or_skip!();
    let bad = r#"{"version": 1, "rules": [{"name": "a", "scope": "everyone", "rate": 0, "windw_seconds": 60}]}"#;
    let host = Host::builder().workers(2).build();
    let error = host.load(plugin(&module, bad)).unwrap_err();
    assert!(error.reason.contains("proxy_on_configure returned false"), "{error}");
    let lines: Vec<&str> = error.logs.iter().map(|line| line.message.as_str()).collect();
    for pointer in ["/rules/0/scope", "/rules/0/rate", "/rules/0/windw_seconds"] {
        let start = format!("policy refused: {pointer}: found ");
        assert!(lines.iter().any(|line| line.starts_with(&start)), "{pointer} in {lines:#?}");
    }
    assert!(error.logs.iter().all(|line| line.level == LogLevel::Error && line.thread == Thread::Canary));
    assert!(host.shared_data("tidegate").is_empty(), "a refused policy leaves nothing behind");
}

#[test]
fn a_bad_policy_later_leaves_the_old_one_serving() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &policy(&rule("r", "per_user", 3, 60, "")));
    assert_eq!(passing(&host, &id, 2, 2, &from("a")), 2);
    for bad in ["", "{", r#"{"version": 1}"#, r#"{"version": 2, "rules": []}"#] {
        let error = host.reconfigure(&id, bad).unwrap_err();
        assert!(error.logs.iter().any(|line| line.message.starts_with("policy refused: ")), "{bad}: {error}");
    }
    assert_eq!(passing(&host, &id, 2, 5, &from("a")), 1, "the old policy and its counters are in force");
    assert_nothing_died(&host);
}

#[test]
fn a_struct_that_came_as_protobuf_is_explained() {
    let module = module_or_skip!();
    // google.protobuf.Struct { fields { key: "version" value { number_value: 1 } } }, as Envoy hands it on.
    let mut message = b"\x0a\x14\x0a\x07version\x12\x09\x11".to_vec();
    message.extend(1.0_f64.to_le_bytes());
    let error = Host::builder().build().load(plugin(&module, "").configuration(message)).unwrap_err();
    let lines: Vec<&str> = error.logs.iter().map(|line| line.message.as_str()).collect();
    assert!(lines.iter().any(|line| line.contains("google.protobuf.StringValue")), "{lines:#?}");
    let error = Host::builder().build().load(plugin(&module, "")).unwrap_err();
    assert!(error.logs[0].message.contains("the plugin configuration is empty"), "{error}");
}

#[test]
fn bombs_are_refused_and_do_not_trap() {
    let module = module_or_skip!();
    let many = vec![rule("r", "global", 1, 60, ""); 100_000].join(",");
    let large = format!("{{\"version\": 1, \"rules\": [{many}]}}");
    let deep = "[".repeat(100_000);
    let secret = r#"{"version": 1, "rules": [], "store": {"type": "redis", "token": 12345678}}"#;
    for bomb in [deep.as_str(), &large, secret, r#"{"version": 1, "rules": [{"rate": 1, "rate": 9}]}"#, "\u{0}\u{1}"] {
        let host = Host::builder().build();
        let error = host.load(plugin(&module, bomb)).unwrap_err();
        assert!(error.reason.contains("returned false"), "{error}");
        assert!(error.logs.len() <= 102, "{} lines", error.logs.len());
        assert!(!error.to_string().contains("12345678"), "secrets are not quoted");
        assert_nothing_died(&host);
    }
}

#[test]
fn an_instance_whose_namespace_another_has_counts_apart_and_says_so() {
    let module = module_or_skip!();
    let host = Host::builder().workers(1).build();
    let text = policy(&rule("r", "per_user", 1, 60, ""));
    let first = host.load(plugin(&module, &text)).unwrap();
    let told = |host: &Host| {
        let warned = messages(host, LogLevel::Warn);
        warned.iter().filter(|line| line.contains("give each instance a namespace of its own")).count()
    };
    assert_eq!(told(&host), 0);
    let second = host.load(plugin(&module, &text).name("other")).unwrap();
    // Another vm_id has shared data of its own, and metrics of the same names.
    let third = host.load(plugin(&module, &text).vm_id("another")).unwrap();
    // The canary, the main thread and the worker, of both.
    assert_eq!(told(&host), 6, "{:#?}", messages(&host, LogLevel::Warn));
    host.reconfigure(&first, &text).unwrap();
    assert_eq!(told(&host), 6, "whose namespace it is goes on as before");
    for (id, count) in [(&first, 3), (&second, 4), (&third, 5)] {
        passing(&host, id, 1, count, &from("a"));
    }
    let metrics = host.metrics();
    let mut limited: Vec<_> = metrics
        .names()
        .into_iter()
        .filter(|name| name.ends_with(".requests_total.limited"))
        .map(|name| (metrics.counter(name), name.starts_with("tidegate.default.")))
        .collect();
    limited.sort_unstable();
    assert_eq!(limited, [(Some(2), true), (Some(3), false), (Some(4), false)]);
}

#[test]
fn two_plugins_in_one_vm_do_not_mix() {
    let module = module_or_skip!();
    let host = Host::builder().workers(2).build();
    let rules = |rate| policy(&rule("r", "per_user", rate, 60, ""));
    let strict = host.load(plugin(&module, &rules(1)).root_id("strict")).unwrap();
    let loose = host.load(plugin(&module, &rules(5)).root_id("loose")).unwrap();
    assert_eq!(host.vm_count(), 3, "one VM a thread for both");
    assert_eq!(passing(&host, &loose, 2, 9, &from("a")), 5);
    assert_eq!(passing(&host, &strict, 2, 9, &from("a")), 1, "what the other admitted does not count here");
    // The same policy to the last byte, under another root: still apart.
    let same = host.load(plugin(&module, &rules(5)).root_id("same")).unwrap();
    assert_eq!(passing(&host, &same, 2, 9, &from("a")), 5);
}

#[test]
fn namespaces_tell_deployments_of_one_name_apart() {
    let module = module_or_skip!();
    let host = Host::builder().build();
    let of = |namespace: &str| {
        let text = with_settings(&format!(r#""namespace": "{namespace}","#), &rule("r", "per_user", 2, 60, ""));
        host.load(plugin(&module, &text)).unwrap()
    };
    let (blue, green) = (of("blue"), of("green"));
    assert_eq!(passing(&host, &blue, 1, 5, &from("a")), 2);
    assert_eq!(passing(&host, &green, 1, 5, &from("a")), 2);
    let metrics = host.metrics();
    assert_eq!(metrics.counter("tidegate.blue.requests_total.limited"), Some(3));
    assert_eq!(metrics.counter("tidegate.green.requests_total.limited"), Some(3));
}

#[test]
fn a_change_keeps_the_counters_of_rules_that_are_the_same() {
    let module = module_or_skip!();
    let kept = rule("kept", "per_user", 3, 60, "");
    let global = |more: &str| rule("all", "global", 100, 60, more);
    let text = |rules: &[&str]| policy(&rules.join(","));
    let (host, id) = serve(&module, 2, &text(&[&kept, &rule("changed", "per_user", 5, 60, ""), &global("")]));
    assert_eq!(passing(&host, &id, 2, 3, &from("a")), 3);
    let later = text(&[
        &rule("first", "per_ip", 50, 60, ""),
        &rule("changed", "per_user", 2, 60, ""),
        &global(r#", "priority": 7, "strategy": "hard""#),
        &kept,
    ]);
    host.reconfigure(&id, later).unwrap();
    let stream = host.request(0, &id, from("a"));
    assert_eq!(stream.set_property(&["tidegate.rule"]).as_deref(), Some(&b"kept"[..]), "used up before the change");
    let other = host.request(1, &id, from("b")).response().unwrap().headers.text("ratelimit").unwrap();
    assert!(other.contains("\"all\";r=96"), "a strategy and a priority are not what is counted: {other}");
    assert!(other.contains("\"changed\";r=1"), "another rate starts afresh: {other}");
    // Back again: the cells of the first policy were kept all the while.
    host.reconfigure(&id, text(&[&kept, &rule("changed", "per_user", 5, 60, ""), &global("")])).unwrap();
    assert!(!passed(&host.request(0, &id, from("a"))));
}

#[test]
fn old_and_new_policy_count_in_the_same_cells_while_both_serve() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &policy(&rule("r", "global", 4, 60, "")));
    let waiting = host.request(0, &id, Request::post("/", "").open());
    host.reconfigure(&id, policy(&rule("r", "global", 4, 60, r#", "priority": 1"#))).unwrap();
    assert_eq!(passing(&host, &id, 1, 9, &from("a")), 3);
    waiting.send_body("x", true);
    assert_eq!(waiting.status(), 200, "a request of the old policy ends in it");
    host.drain(&id);
    assert!(!passed(&host.request(0, &id, from("a"))));
}

#[test]
fn five_vms_that_start_at_once_agree_on_one_seed_and_one_table() {
    let module = module_or_skip!();
    let text = policy(&rule("r", "per_user", 3, 60, ""));
    let host = Host::builder().workers(5).build();
    // In the midst of making the seed, every other VM of the plugin is already doing the same.
    for _ in 0..3 {
        let again = plugin(&module, &text).root_id("nested");
        host.before_call(Thread::Main, "proxy_set_shared_data", 1, move |host| {
            // A plugin cannot be loaded while a callback runs; the refusal must not disturb the one that runs.
            assert!(host.load(again).is_err());
        });
    }
    let id = host.load(plugin(&module, &text)).unwrap();
    let seeds = host.shared_data("tidegate").iter().filter(|(_, value)| value.len() == 16).count();
    assert_eq!(seeds, 1, "one seed for the canary, the main thread and five workers");
    let user = from("somebody");
    assert_eq!(passing(&host, &id, 5, 20, &user), 3, "all five place the client in the same bucket");
    assert_nothing_died(&host);
}

#[test]
fn each_table_has_a_seed_of_its_own_and_no_two_hosts_share_one() {
    let module = module_or_skip!();
    let text = policy(&rule("r", "per_user", 3, 60, ""));
    let seed_of = |number: u64| {
        let host = Host::builder().seed(number).build();
        host.load(plugin(&module, &text)).unwrap();
        let data = host.shared_data("tidegate");
        data.iter().find(|(_, value)| value.len() == 16).map(|(_, value)| value.to_vec()).unwrap()
    };
    assert_ne!(seed_of(1), seed_of(2), "the seed is the host's randomness");
}

#[test]
fn warnings_are_logged_and_do_not_refuse() {
    let module = module_or_skip!();
    let text = with_settings("", &rule("r", "per_user", 3, 60, r#", "algorithm": "fixed_window", "burst": 2"#));
    let (host, _) = serve(&module, 1, &text);
    let warnings = messages(&host, LogLevel::Warn);
    assert!(warnings.iter().any(|line| line.starts_with("policy warning: /rules/0/burst")), "{warnings:#?}");
    assert!(messages(&host, LogLevel::Info).iter().any(|line| line.starts_with("policy accepted: namespace default")));
}
