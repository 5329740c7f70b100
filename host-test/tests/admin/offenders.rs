//! Who is refused most, among very many, through the shipped .wasm: the true top twenty, in memory that does not grow.

use std::time::Duration;

use serde_json::Value;
use tidegate_host_test::{Request, Thread};

use crate::console::{console_of, policy};
use crate::tidegate::rule;

const CLIENTS: usize = 100_000;
/// Requests by Zipf's law, after one of each client.
const ZIPF: usize = 200_000;

/// Clients by Zipf's law with exponent 1: client k comes 1 / (k + 1) as often as client 0. A fixed generator picks.
#[allow(clippy::cast_precision_loss)]
fn zipf(seed: u64) -> impl Iterator<Item = usize> {
    let mut sums = Vec::with_capacity(CLIENTS);
    let mut sum = 0.0_f64;
    for client in 1..=CLIENTS {
        sum += 1.0 / client as f64;
        sums.push(sum);
    }
    let mut state = seed;
    (0..ZIPF).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (state >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        sums.partition_point(|at| *at < share)
    })
}

fn address(client: usize) -> String {
    format!("10.{}.{}.{}", client >> 16, (client >> 8) & 255, client & 255)
}

#[test]
fn the_true_top_twenty_of_100_000_are_found_in_memory_that_does_not_grow() {
    // One request a year passes, so that every client is an offender.
    let Some(at) = console_of(&policy("", &rule("closed", "global", 1, 31_536_000, ""))) else { return };
    let mut truth = vec![0_u64; CLIENTS];
    at.host.request(0, &at.id, Request::get("/"));
    let mut worker = 0;
    let mut refuse = |client: usize| {
        worker = 1 - worker;
        truth[client] += 1;
        let request = Request::get("/").header("x-user", format!("user-{client}"));
        at.host.request(worker, &at.id, request.peer(&format!("{}:1", address(client))));
    };
    let memory = || [0, 1].map(|worker| at.host.memory_bytes(Thread::Worker(worker)));
    let stored = || at.host.shared_data("tidegate").iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    (0..2_000).for_each(&mut refuse);
    at.host.advance(Duration::from_secs(2));
    at.get("/v1/metrics");
    let (memory_before, stored_before) = (memory(), stored());
    for client in 2_000..CLIENTS {
        refuse(client);
    }
    for (number, client) in zipf(7).enumerate() {
        refuse(client);
        if number % 20_000 == 0 {
            at.host.advance(Duration::from_secs(1));
        }
    }
    at.host.advance(Duration::from_secs(2));
    let metrics = at.get("/v1/metrics/closed");
    assert_eq!(memory(), memory_before, "no page more");
    assert!(stored() < stored_before * 3 / 2 + 65_536, "{} bytes, before {stored_before}", stored());
    let mut order: Vec<usize> = (0..CLIENTS).collect();
    order.sort_by_key(|client| std::cmp::Reverse(truth[*client]));
    // Each worker's sketch is wrong by at most its rejections / 256; both together.
    let bound = (CLIENTS + ZIPF) as u64 / 256 + 2;
    for kind in ["users", "ips"] {
        let name = |client: usize| if kind == "users" { format!("user-{client}") } else { address(client) };
        let shown = metrics["rules"]["closed"]["violations"][kind].as_array().unwrap();
        assert_eq!(shown.len(), 20);
        for entry in shown {
            let number = |name: &str| entry[name].as_u64().unwrap();
            let client = order.iter().find(|client| Value::String(name(**client)) == entry["key"]).unwrap();
            let (count, error) = (number("count"), number("error"));
            assert!(error <= bound && count >= truth[*client] && count - error <= truth[*client], "{entry}");
            // It is one of the true top twenty, or within the stated error of the twentieth.
            assert!(truth[*client] + bound >= truth[order[19]], "{entry}");
        }
        // Whoever leads the twentieth by more than the error must be there.
        for client in order.iter().take_while(|client| truth[**client] > truth[order[20]] + bound) {
            assert!(
                shown.iter().any(|entry| entry["key"] == name(*client)),
                "{kind}: client {client} of {}",
                truth[*client]
            );
        }
        let found =
            order[..20].iter().filter(|client| shown.iter().any(|entry| entry["key"] == name(**client))).count();
        println!("top 20 of {CLIENTS} {kind}: {found} of the true twenty, error bound {bound}");
        assert_eq!(found, 20, "{kind}");
    }
    at.sound();
}
