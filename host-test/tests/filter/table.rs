//! The counters in shared data: made ahead, of one size whatever clients send, and safe to have damaged.

use std::time::Duration;

use crate::tidegate::{assert_nothing_died, from, module_or_skip, passed, passing, policy, rule, serve, with_settings};
use tidegate_host_test::{Host, PluginId, Thread};

/// Bytes of an entry, entries of a bucket, and keys a bucket is made for: docs say memory in these terms.
const ENTRY: usize = 40;
const WAYS: usize = 16;
const KEYS_PER_BUCKET: usize = 8;

const VM: &str = "tidegate";

fn gauge(host: &Host, name: &str) -> u64 {
    host.metrics().gauge(&format!("tidegate.default.{name}")).unwrap()
}

/// A policy over 4,096 keys: each user, each address, everybody, and one endpoint.
fn four_kinds() -> String {
    let rules = [
        rule("user", "per_user", 3, 3600, ""),
        rule("ip", "per_ip", 1_000_000, 60, ""),
        rule("all", "global", 10_000_000, 60, ""),
        rule("endpoint", "per_endpoint", 10_000_000, 60, r#", "endpoints": ["/a/{id}", "/b"]"#),
    ];
    with_settings(r#""store": {"type": "local", "max_keys": 4096},"#, &rules.join(","))
}

/// Sends a request for each of `count` users that nobody has seen before, from `first` on.
fn flood(host: &Host, id: &PluginId, first: usize, count: usize) {
    for number in first..first + count {
        let stream = host.request(number % 2, id, from(&format!("made-up-{number}")));
        assert!(passed(&stream), "{number}");
    }
}

#[test]
fn all_keys_are_made_before_the_first_request() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &four_kinds());
    let before = host.shared_data(VM);
    // Seed and marker, the buckets, and one cell each for the global rule and the two templates.
    assert_eq!(before.len(), 2 + 4096 / KEYS_PER_BUCKET + 3);
    flood(&host, &id, 0, 500);
    host.request(0, &id, from("x").set_header(":path", "/a/1"));
    assert_eq!(host.shared_data(VM).len(), before.len(), "no request makes a key");
    assert_eq!(gauge(&host, "table_capacity_bytes"), (4096 / KEYS_PER_BUCKET * WAYS * ENTRY) as u64);
}

#[test]
fn memory_is_constant_under_a_hundred_thousand_keys_and_a_limited_client_stays_limited() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &four_kinds());
    let keys = host.shared_data(VM).len();
    let names: usize = host.shared_data(VM).iter().map(|(key, _)| key.len()).sum();
    assert_eq!(passing(&host, &id, 2, 5, &from("victim")), 3);
    let vm_sizes = || [0, 1].map(|worker| host.memory_bytes(Thread::Worker(worker)));
    flood(&host, &id, 100_000, 2_000);
    let warm = vm_sizes();
    assert!(warm[0] > 0);
    for round in 0..10 {
        flood(&host, &id, round * 10_000, 10_000);
        assert!(!passed(&host.request(round % 2, &id, from("victim"))), "round {round}: still limited");
    }
    assert_eq!(vm_sizes(), warm, "the VMs have not grown by a page");
    let data = host.shared_data(VM);
    assert_eq!(data.len(), keys, "not one key more");
    let capacity = usize::try_from(gauge(&host, "table_capacity_bytes")).unwrap();
    assert!(data.bytes() <= capacity + names + 3 * 24 + 64, "{} of {capacity} bytes", data.bytes());
    let entries: usize =
        data.iter().filter(|(_, value)| value.len() % ENTRY == 0).map(|(_, value)| value.len() / ENTRY).sum();
    assert_eq!(gauge(&host, "table_keys"), entries as u64, "the gauge counts what is there");
    assert_eq!(gauge(&host, "table_bytes"), (entries * ENTRY) as u64);
    let metrics = host.metrics();
    let given_up = |what: &str| metrics.counter(&format!("tidegate.default.table_given_up_total.{what}")).unwrap();
    assert!(given_up("idle") > 50_000, "clients who were not at their limit make room: {}", given_up("idle"));
    assert_eq!(given_up("limiting"), 0, "nobody who was limited was given up");
    assert_nothing_died(&host);
}

#[test]
fn giving_up_a_limited_client_is_counted() {
    let module = module_or_skip!();
    // Every client is limited after one request, and the table holds eight keys: one bucket of sixteen.
    let text = with_settings(r#""store": {"type": "local", "max_keys": 1024},"#, &rule("r", "per_user", 1, 3600, ""));
    let (host, id) = serve(&module, 1, &text);
    for number in 0..5_000 {
        assert!(passed(&host.request(0, &id, from(&format!("u{number}")))));
    }
    let limiting = host.metrics().counter("tidegate.default.table_given_up_total.limiting").unwrap();
    assert!(limiting >= 5_000 - 2_048, "2,048 entries at most are kept: {limiting}");
}

#[test]
fn a_client_that_comes_back_after_each_of_many_edits_stays_limited() {
    let module = module_or_skip!();
    let of = |rate| policy(&rule("r", "per_user", rate, 86_400, ""));
    let (host, id) = serve(&module, 1, &of(1));
    for rate in 2..40 {
        host.reconfigure(&id, of(rate)).unwrap();
        let count = rate as usize;
        assert_eq!(passing(&host, &id, 1, count + 3, &from("a")), count, "after {} edits", rate - 1);
    }
    let metrics = host.metrics();
    let given_up = |what: &str| metrics.counter(&format!("tidegate.default.table_given_up_total.{what}")).unwrap();
    assert_eq!(given_up("limiting"), 0, "only counters that no rule reads any more made room");
    assert!(given_up("idle") > 0);
}

#[test]
fn a_request_that_a_full_bucket_cannot_count_is_refused() {
    let module = module_or_skip!();
    // The smallest table has 128 buckets of 16: 1,000 counters of one client overfill some of them.
    let rules: Vec<String> = (0..1_000).map(|number| rule(&format!("r{number}"), "per_user", 5, 86_400, "")).collect();
    let (host, id) = serve(&module, 1, &policy(&rules.join(",")));
    for _ in 0..10 {
        let stream = host.request(0, &id, from("a"));
        assert!(!passed(&stream), "{:?}", stream.outcome());
    }
    assert_eq!(host.metrics().counter("tidegate.default.contended_total"), Some(10));
    assert_nothing_died(&host);
}

#[test]
fn the_gauges_tell_of_the_size_in_force_also_where_one_was_tried_and_taken_back() {
    let module = module_or_skip!();
    let of = |keys: usize| {
        let store = format!(r#""store": {{"type": "local", "max_keys": {keys}}},"#);
        with_settings(&store, &rule("r", "per_user", 100, 1, ""))
    };
    let (host, id) = serve(&module, 2, &of(1024));
    let assert_right = |keys: usize, what: &str| {
        let buckets = u32::try_from(keys / KEYS_PER_BUCKET).unwrap().to_le_bytes();
        let data = host.shared_data(VM);
        let own = data.iter().filter(|(key, _)| key.get(8) == Some(&b'b') && key[9..13] == buckets);
        let entries: usize = own.map(|(_, value)| value.len() / ENTRY).sum();
        assert_eq!(gauge(&host, "table_keys"), entries as u64, "{what}");
        assert_eq!(gauge(&host, "table_bytes"), (entries * ENTRY) as u64, "{what}");
        assert_eq!(gauge(&host, "table_capacity_bytes"), (keys / KEYS_PER_BUCKET * WAYS * ENTRY) as u64, "{what}");
        entries
    };
    flood(&host, &id, 0, 1_500);
    assert!(assert_right(1_024, "at first") > 1_000);
    host.reconfigure(&id, of(4_096)).unwrap();
    flood(&host, &id, 0, 3);
    assert_eq!(assert_right(4_096, "another size"), 3);
    host.reconfigure(&id, of(1_024)).unwrap();
    assert!(assert_right(1_024, "taken back") > 1_000, "what was counted before is there again");
    // A second later all of them are like new, and newcomers take their places.
    host.advance(Duration::from_millis(1_100));
    flood(&host, &id, 10_000, 2_500);
    host.advance(Duration::from_millis(1_100));
    flood(&host, &id, 20_000, 2_500);
    assert_right(1_024, "after floods");
}

#[test]
fn a_flood_does_not_reset_what_no_client_chooses() {
    let module = module_or_skip!();
    let rules = [rule("all", "global", 2_000, 3600, ""), rule("user", "per_user", 1, 3600, "")].join(",");
    let (host, id) = serve(&module, 2, &policy(&rules));
    let passed =
        (0..3_000).filter(|number| passed(&host.request(number % 2, &id, from(&format!("u{number}"))))).count();
    assert_eq!(passed, 2_000, "the global limit holds to the last one");
}

#[test]
fn two_clients_in_a_full_bucket_do_not_free_each_other() {
    let module = module_or_skip!();
    let text = with_settings(r#""store": {"type": "local", "max_keys": 1024},"#, &rule("r", "per_user", 2, 3600, ""));
    let (host, id) = serve(&module, 1, &text);
    for user in ["a", "b"] {
        assert_eq!(passing(&host, &id, 1, 2, &from(user)), 2);
    }
    // Clients with half of their quota used fill all buckets, the two alternate meanwhile.
    for number in 0..4_000 {
        host.request(0, &id, from(&format!("u{number}")));
        let user = if number % 2 == 0 { "a" } else { "b" };
        assert!(!passed(&host.request(0, &id, from(user))), "{user} after {number}");
    }
}

/// Pseudo-random bytes, the same in every run.
fn noise(seed: &mut u64, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    for _ in 0..size {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        bytes.push(seed.to_le_bytes()[4]);
    }
    bytes
}

#[test]
fn random_bytes_in_slots_trap_nothing_and_lock_out_nobody_for_longer_than_a_window() {
    let module = module_or_skip!();
    for algorithm in ["token_bucket", "leaky_bucket", "fixed_window", "sliding_window"] {
        let more = format!(r#", "algorithm": "{algorithm}""#);
        let strategy = format!(r#"{more}, "strategy": {{"type": "throttle", "max_delay_ms": 1}}"#);
        let rules = [
            rule("user", "per_user", 4, 60, &more),
            rule("all", "global", 60, 60, &more),
            rule("late", "per_ip", 60, 60, &strategy),
        ];
        let (host, id) = serve(&module, 2, &policy(&rules.join(",")));
        let slots: Vec<Vec<u8>> = {
            let data = host.shared_data(VM);
            data.iter().filter(|(_, value)| value.len() != 16).map(|(key, _)| key.to_vec()).collect()
        };
        let mut seed = 0x9E37_79B9_7F4A_7C15;
        for round in 0..40_usize {
            for slot in &slots {
                let size = [0, 1, 23, 24, 25, 40, 639, 640, 641, 5_000][(round + slot.len()) % 10];
                let garbage = noise(&mut seed, size);
                host.put_shared_data(VM, slot, garbage);
            }
            for number in 0..4 {
                host.request(number % 2, &id, from(&format!("u{number}")));
            }
            // A window and a sixteenth later, everything that garbage could stand for is over.
            let window = Duration::from_millis(63_751);
            host.advance(window);
            for number in 0..4 {
                host.request(number % 2, &id, from(&format!("u{number}")));
            }
            host.advance(window);
            let stream = host.request(0, &id, from("u0"));
            assert!(passed(&stream), "{algorithm}, round {round}: {:?}", stream.outcome());
            assert_nothing_died(&host);
        }
    }
}

#[test]
fn entries_that_look_valid_and_lie_are_no_worse() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &policy(&rule("r", "per_user", 4, 60, "")));
    host.request(0, &id, from("a"));
    let data = host.shared_data(VM);
    let (key, value) = data.iter().find(|(_, value)| value.len() == ENTRY).unwrap();
    let (key, mut value) = (key.to_vec(), value.to_vec());
    value[16..].fill(0xff);
    host.put_shared_data(VM, &key, &value);
    assert!(!passed(&host.request(0, &id, from("a"))), "read as full");
    host.advance(Duration::from_secs(64));
    assert!(passed(&host.request(0, &id, from("a"))), "and no longer than that");
    // The same entry sixteen times: one bucket full of one client.
    host.put_shared_data(VM, &key, value.repeat(WAYS));
    host.request(0, &id, from("a"));
    host.request(0, &id, from("b"));
    assert_nothing_died(&host);
}

#[test]
fn a_damaged_seed_refuses_the_next_configuration_and_says_so() {
    let module = module_or_skip!();
    let text = policy(&rule("r", "per_user", 4, 60, ""));
    let (host, id) = serve(&module, 1, &text);
    let data = host.shared_data(VM);
    let (seed, _) = data.iter().find(|(_, value)| value.len() == 16).unwrap();
    host.put_shared_data(VM, seed, "short");
    assert!(passed(&host.request(0, &id, from("a"))), "who has read it already serves on");
    let error = host.reconfigure(&id, &text).unwrap_err();
    assert!(error.to_string().contains("seed"), "{error}");
}
