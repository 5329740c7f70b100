//! Several instances of the plugin in one VM: each root context has its own policy, counters and metrics.

use serde_json::{Value, json};
use xtask::envoy::{Envoy, Filter, Listener, Plugin, Settings};
use xtask::load::{Client, Request};
use xtask::upstream::Upstream;

use crate::proxy::{self, YEAR};
use crate::wire::Reply;

/// Policies of the same rule names: one rule differs in its rate, one is the same to the letter.
fn policy(namespace: &str, rate: u64) -> String {
    let rule = |name: &str, scope: &str, rate: u64| json!({"name": name, "scope": scope, "rate": rate, "window_seconds": YEAR});
    let policy: Value = json!({"version": 1, "namespace": namespace, "rules": [
        rule("all", "global", rate), rule("same", "per_ip", 1_000),
    ]});
    policy.to_string()
}

/// An instance with a root of its own in the one VM that all instances here share.
fn instance(name: &str, policy: &str) -> Plugin {
    Plugin { name: name.into(), root_id: format!("root_{name}"), vm_id: "shared".into(), ..Plugin::new(policy) }
}

fn told(client: &Client) -> String {
    Reply::from(client.send(&Request::get("/")).unwrap()).status_and_left()
}

fn virtual_machines(envoy: &Envoy) -> u64 {
    envoy.stat("wasm.envoy.wasm.runtime.v8.active").unwrap()
}

#[test]
fn instances_in_one_vm_do_not_mix() {
    if !proxy::is_built("instances in one VM") {
        return;
    }
    let upstream = Upstream::start().unwrap();
    let gold = instance("gold", &policy("gold", 700));
    let free = instance("free", &policy("free", 300));
    // The same policy and namespace as `gold`, under another name.
    let twin = instance("twin", &policy("gold", 700));
    let alone = Settings::new(upstream.address(), vec![Filter::Discovered(gold.clone())]);
    let vms_of_one = virtual_machines(&proxy::start(&alone).unwrap());

    let mut settings = alone;
    for plugin in [&free, &twin] {
        settings.listeners.push(Listener::new(&plugin.name, vec![Filter::Discovered(plugin.clone())]));
    }
    settings.listeners[0].name = "gold".into();
    let envoy = proxy::start(&settings).unwrap();
    assert_eq!(virtual_machines(&envoy), vms_of_one, "three instances should share the VMs of one");

    let client = |name: &str| Client::http1(envoy.address(name).unwrap(), 1_000).unwrap();
    let (on_gold, on_free, on_twin) = (client("gold"), client("free"), client("twin"));
    assert_eq!(told(&on_gold), "200 all=699 same=999");
    assert_eq!(told(&on_gold), "200 all=698 same=998");
    assert_eq!(told(&on_free), "200 all=299 same=999");
    assert_eq!(told(&on_twin), "200 all=699 same=999");

    // All at once: each admits what is left of its own.
    let passed = |client: &Client| {
        let answers = client.send_all(vec![Request::get("/"); 900]);
        answers.into_iter().filter(|answer| answer.as_ref().unwrap().status == 200).count()
    };
    let counts = std::thread::scope(|scope| {
        let threads = [&on_gold, &on_free, &on_twin].map(|client| scope.spawn(move || passed(client)));
        threads.map(|thread| thread.join().unwrap())
    });
    println!(
        "instances in one VM ({vms_of_one} VMs in Envoy): {counts:?} of 900 each passed what was left of 698, 299, 699"
    );
    assert_eq!(counts, [698, 299, 699]);
    let metric = |name: &str| envoy.stat(&format!("wasmcustom.tidegate.{name}")).unwrap();
    assert_eq!(metric("free.requests_total.allowed"), 300);
    assert_eq!(metric("gold.requests_total.allowed"), 700, "one namespace, one instance's metrics");
    let allowed = envoy.stats("tidegate.gold-.*requests_total.allowed").unwrap();
    assert_eq!(allowed.values().collect::<Vec<_>>(), [&700], "the other's are apart: {allowed:?}");
    let warned = envoy.log_lines().unwrap().iter().any(|line| line.contains("has the namespace gold"));
    assert!(warned, "and the log says so");

    // A change of one leaves the others alone.
    envoy.update(&Plugin { policy: policy("free", 301), ..free }).unwrap();
    assert_eq!(told(&on_free), "200 all=300 same=699");
    assert_eq!(told(&on_gold), "429 all=0");
    assert_eq!(told(&on_twin), "429 all=0");
}

/// Two instances in one listener: both count, both tell, the first to refuse answers.
#[test]
fn instances_in_one_chain_both_count() {
    if !proxy::is_built("instances in one chain") {
        return;
    }
    let upstream = Upstream::start().unwrap();
    let outer = instance("outer", &policy("outer", 5));
    let inner = instance("inner", &policy("inner", 3));
    let filters = vec![Filter::Discovered(outer), Filter::Discovered(inner)];
    let envoy = proxy::start(&Settings::new(upstream.address(), filters)).unwrap();
    let client = Client::http1(envoy.address("main").unwrap(), 1).unwrap();
    let answer = client.send(&Request::get("/")).unwrap();
    let told: Vec<&str> = answer.headers.get_all("ratelimit").iter().map(|value| value.to_str().unwrap()).collect();
    let told = told.join(", ");
    assert!(told.contains("\"all\";r=4") && told.contains("\"all\";r=2"), "{told}");
    let statuses: Vec<u16> = (0..4).map(|_| client.send(&Request::get("/")).unwrap().status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    let metric = |name: &str| envoy.stat(&format!("wasmcustom.tidegate.{name}")).unwrap();
    let limited = ["outer", "inner"].map(|namespace| metric(&format!("{namespace}.requests_total.limited")));
    assert_eq!((limited, upstream.requests()), ([0, 2], 3));
}
