//! Held requests: in order, at their moments, bounded, and never lost silently.

use std::time::Duration;

use crate::tidegate::{assert_nothing_died, from, messages, module_or_skip, passed, plugin, policy, rule, serve};
use tidegate_host_test::{Headers, Host, LogLevel, Outcome, PluginId, Request, Response, Stream, Thread, Upstream};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// One a second for each user, burst 1, held up to ten seconds, with these further options.
fn one_a_second(options: &str) -> String {
    let more = format!(r#", "burst": 1, "strategy": {{"type": "throttle", "max_delay_ms": 10000{options}}}"#);
    policy(&rule("slow", "per_user", 60, 60, &more))
}

fn waiting(host: &Host) -> u64 {
    host.metrics().gauge("tidegate.default.waiting").unwrap()
}

fn held(stream: &Stream) -> bool {
    stream.outcome() == Outcome::Paused
}

fn send(host: &Host, id: &PluginId, count: usize) -> Vec<Stream> {
    (0..count).map(|_| host.request(0, id, from("a"))).collect()
}

/// Advances in steps of a millisecond and says after how many each stream went on.
fn released_at(host: &Host, streams: &[Stream], at_most_ms: u64) -> Vec<Option<u64>> {
    let mut times: Vec<Option<u64>> = streams.iter().map(|stream| passed(stream).then_some(0)).collect();
    for ms in 1..=at_most_ms {
        host.advance(MS);
        for (time, stream) in times.iter_mut().zip(streams) {
            if time.is_none() && passed(stream) {
                *time = Some(ms);
            }
        }
    }
    times
}

#[test]
fn each_goes_on_at_its_own_moment_in_the_order_of_coming() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(""));
    let streams = send(&host, &id, 5);
    assert_eq!(waiting(&host), 4);
    let expected: Vec<Option<u64>> = (0..5).map(|second| Some(second * 1_000)).collect();
    assert_eq!(released_at(&host, &streams, 4_500), expected);
    assert_eq!(waiting(&host), 0);
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(
        host.metrics().histogram("tidegate.default.release_lag_us"),
        Some(&[0; 4][..]),
        "not a microsecond late"
    );
}

#[test]
fn a_moment_between_two_milliseconds_is_never_early() {
    let module = module_or_skip!();
    let more = r#", "burst": 1, "strategy": "throttle""#;
    let (host, id) = serve(&module, 1, &policy(&rule("third", "global", 3, 1, more)));
    let streams = send(&host, &id, 4);
    // A bucket of one is full after each request, and starts anew at the whole microsecond: 2 us are lost over three.
    assert_eq!(released_at(&host, &streams, 1_100), [Some(0), Some(334), Some(667), Some(1_001)]);
}

#[test]
fn workers_share_one_line_and_nobody_overtakes() {
    let module = module_or_skip!();
    let more = r#", "burst": 1, "strategy": {"type": "throttle", "max_delay_ms": 60000}"#;
    let (host, id) = serve(&module, 3, &policy(&rule("r", "global", 20, 1, more)));
    let streams: Vec<Stream> = (0..90).map(|number| host.request(number % 3, &id, from("a"))).collect();
    let expected: Vec<Option<u64>> = (0..90).map(|place| Some(place * 50)).collect();
    assert_eq!(released_at(&host, &streams, 4_600), expected, "evenly spaced over all workers");
}

#[test]
fn a_thousand_due_at_once_survive() {
    let module = module_or_skip!();
    let more = r#", "algorithm": "fixed_window",
        "strategy": {"type": "throttle", "max_delay_ms": 2000, "max_waiting": 2000, "max_waiting_per_key": 2000}"#;
    let (host, id) = serve(&module, 1, &policy(&rule("r", "global", 1_000, 1, more)));
    let streams = send(&host, &id, 2_000);
    assert_eq!(waiting(&host), 1_000);
    host.advance(SECOND);
    assert_eq!(streams.iter().filter(|stream| passed(stream)).count(), 1_064, "64 in the first callback");
    host.advance(15 * MS);
    assert!(streams.iter().all(passed));
    assert_eq!(host.deepest_nesting(), 64, "Envoy's VM dies of about 270");
    assert_nothing_died(&host);
}

#[test]
fn the_timer_runs_only_while_somebody_waits() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &one_a_second(""));
    let streams = send(&host, &id, 3);
    host.advance(3 * SECOND);
    assert!(streams.iter().all(passed));
    host.reset_calls();
    host.advance(3_600 * SECOND);
    assert_eq!(host.calls().total(), 0, "an idle plugin does nothing");
    // And while they wait, it does not tick for nothing either, once it has its seat among those who hold requests.
    send(&host, &id, 2);
    host.advance(2 * MS);
    host.reset_calls();
    host.advance(997 * MS);
    assert_eq!(host.calls().total(), 0);
}

#[test]
fn a_client_that_leaves_frees_its_place_and_gives_it_back() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(""));
    let streams = send(&host, &id, 3);
    streams[2].disconnect();
    assert_eq!(waiting(&host), 1);
    assert_eq!(host.metrics().counter("tidegate.default.abandoned_total"), Some(1));
    let next = host.request(0, &id, from("a"));
    assert_eq!(released_at(&host, &[streams[1].clone(), next], 2_100), [Some(1_000), Some(2_000)], "the freed moment");
}

#[test]
fn a_place_in_the_midst_of_the_line_moves_nobody() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(""));
    let streams = send(&host, &id, 4);
    streams[1].disconnect();
    streams[2].disconnect();
    let next = host.request(0, &id, from("a"));
    let times = released_at(&host, &[streams[3].clone(), next], 4_100);
    assert_eq!(times[0], Some(3_000), "those behind keep their moments");
    assert_eq!(times[1], Some(4_000), "what others were promised on the strength of is not given twice");
}

#[test]
fn all_who_wait_leave_and_no_timer_or_place_is_left() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(""));
    for stream in send(&host, &id, 8) {
        stream.disconnect();
    }
    assert_eq!(waiting(&host), 0);
    host.advance(SECOND);
    host.reset_calls();
    host.advance(60 * SECOND);
    assert_eq!(host.calls().total(), 0);
}

#[test]
fn rooms_are_bounded_for_each_client_and_for_all() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(r#", "max_waiting": 3, "max_waiting_per_key": 2"#));
    let outcome = |user: &str| {
        let stream = host.request(0, &id, from(user));
        String::from_utf8(stream.set_property(&["tidegate.outcome"]).unwrap()).unwrap()
    };
    assert_eq!(["a"; 4].map(outcome), ["allowed", "delayed", "delayed", "limited"]);
    assert_eq!(["b"; 3].map(outcome), ["allowed", "delayed", "limited"], "a's two and b's one fill the room");
    assert_eq!(outcome("c"), "allowed", "who need not wait needs no room");
    let refused = host.request(0, &id, from("a")).response().unwrap();
    assert_eq!((refused.status(), refused.headers.text("retry-after").as_deref()), (429, Some("3")));
    host.advance(SECOND);
    assert_eq!(outcome("a"), "delayed", "there is room again");
    assert_eq!(outcome("b"), "delayed");
    assert_eq!(outcome("b"), "limited");
}

#[test]
fn a_refused_request_reserves_nothing() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(r#", "max_waiting_per_key": 1"#));
    let streams = send(&host, &id, 50);
    assert_eq!(streams.iter().filter(|stream| held(stream)).count(), 1);
    assert_eq!(released_at(&host, &streams[..2], 1_000), [Some(0), Some(1_000)]);
    let next = host.request(0, &id, from("a"));
    assert_eq!(released_at(&host, &[next], 1_000), [Some(1_000)], "48 refusals left no debt");
}

#[test]
fn bodies_and_trailers_wait_with_their_request_and_arrive_whole() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(""));
    send(&host, &id, 1);
    let stream = host.request(0, &id, Request::post("/", "one ").header("x-user", "a").open());
    stream.send_body("two ", false);
    host.advance(500 * MS);
    stream.send_body("three", false);
    assert!(held(&stream));
    host.advance(500 * MS);
    stream.send_body(" four", false);
    stream.send_trailers(Headers::new().with("t", "1").with("x-tidegate-rule", "forged"));
    let seen = stream.upstream_request().unwrap();
    assert_eq!((seen.text().as_str(), seen.complete), ("one two three four", true));
    let trailers = seen.trailers.unwrap();
    assert_eq!((trailers.len(), trailers.get("t")), (1, Some(&b"1"[..])));
}

#[test]
fn a_held_request_with_a_body_waits_also_where_headers_may_stop_alone() {
    let module = module_or_skip!();
    let host = Host::builder().build();
    let id = host.load(plugin(&module, &one_a_second("")).allow_on_headers_stop_iteration(true)).unwrap();
    send(&host, &id, 1);
    let stream = host.request(0, &id, Request::post("/", "body").header("x-user", "a").trailer("t", "1"));
    assert!(held(&stream), "its body does not carry it past the limit");
    host.advance(SECOND);
    let seen = stream.upstream_request().unwrap();
    assert_eq!((seen.text().as_str(), seen.complete), ("body", true));
    assert_eq!(seen.trailers.unwrap().len(), 1);
    // A refusal stays one too.
    let text = policy(&rule("r", "global", 1, 60, ""));
    let id = host.load(plugin(&module, &text).root_id("2").allow_on_headers_stop_iteration(true)).unwrap();
    host.request(0, &id, from("a"));
    let refused = host.request(0, &id, Request::post("/", "body").trailer("t", "1"));
    assert_eq!((refused.status(), refused.upstream_request()), (429, None));
}

#[test]
fn a_policy_update_loses_nobody_who_waits() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(""));
    let old = send(&host, &id, 4);
    host.reconfigure(&id, one_a_second(r#", "max_waiting": 100"#)).unwrap();
    host.drain(&id);
    let new = send(&host, &id, 2);
    let streams: Vec<Stream> = old.into_iter().chain(new).collect();
    let expected: Vec<Option<u64>> = (0..6).map(|second| Some(second * 1_000)).collect();
    assert_eq!(released_at(&host, &streams, 6_000), expected, "old and new stand in one line");
    assert_eq!(waiting(&host), 0);
    assert_nothing_died(&host);
}

#[test]
fn an_update_to_a_policy_without_the_rule_still_lets_go_who_waits() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(""));
    let streams = send(&host, &id, 3);
    host.reconfigure(&id, policy(&rule("other", "global", 9, 60, ""))).unwrap();
    host.drain(&id);
    assert_eq!(released_at(&host, &streams, 2_500), [Some(0), Some(1_000), Some(2_000)]);
}

#[test]
fn the_death_of_one_worker_leaves_the_others_line_alone() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 2, &one_a_second(""));
    let streams: Vec<Stream> = (0..6).map(|number| host.request(number % 2, &id, from("a"))).collect();
    host.kill(Thread::Worker(0));
    assert_eq!(host.request(0, &id, from("b")).outcome(), Outcome::VmFailed);
    let times = released_at(&host, &streams, 6_000);
    assert_eq!(times, [Some(0), Some(1_000), None, Some(3_000), None, Some(5_000)]);
    assert!(held(&streams[2]), "those of the dead VM hang until the proxy's own timeout ends them");
    streams[2].disconnect();
    streams[4].disconnect();
    let later = host.request(0, &id, from("a"));
    assert!(passed(&later), "the new VM serves");
    let next = host.request(0, &id, from("a"));
    assert_eq!(released_at(&host, &[next], 1_000), [Some(1_000)]);
}

#[test]
fn a_clock_that_steps_does_not_hold_anybody_longer_than_the_rule_says() {
    let module = module_or_skip!();
    for step in [-3_600_i64, -86_400 * 3_650, 3_600, 86_400 * 3_650] {
        let (host, id) = serve(&module, 1, &one_a_second(""));
        let streams = send(&host, &id, 3);
        let stepped = host.clock().micros().saturating_add_signed(step * 1_000_000);
        host.clock().set_micros(stepped);
        host.advance(10 * SECOND);
        assert!(streams.iter().all(passed), "a step of {step} s");
        assert_eq!(waiting(&host), 0);
        host.reset_calls();
        host.advance(SECOND);
        assert_eq!(host.calls().total(), 0, "and the timer is off");
    }
}

#[test]
fn an_upstream_that_answers_later_or_never_changes_nothing() {
    let module = module_or_skip!();
    for upstream in [Upstream::Later(Response::new(204)), Upstream::Manual] {
        let (host, id) = serve(&module, 1, &one_a_second(""));
        host.set_upstream(upstream);
        let streams = send(&host, &id, 3);
        assert_eq!(released_at(&host, &streams, 2_000), [Some(0), Some(1_000), Some(2_000)]);
    }
}

#[test]
fn delayed_requests_carry_their_headers_when_they_are_answered() {
    let module = module_or_skip!();
    let (host, id) = serve(&module, 1, &one_a_second(""));
    let streams = send(&host, &id, 2);
    host.advance(SECOND);
    let response = streams[1].response().unwrap();
    assert_eq!(response.headers.text("ratelimit").as_deref(), Some("\"slow\";r=0;t=2"));
    assert_eq!(streams[1].set_property(&["tidegate.outcome"]).as_deref(), Some(&b"delayed"[..]));
}

#[test]
fn twenty_thousand_requests_of_all_kinds_leave_nothing_waiting() {
    let module = module_or_skip!();
    let rules = [
        rule("slow", "per_user", 50, 1, r#", "burst": 5, "strategy": {"type": "throttle", "max_delay_ms": 700}"#),
        rule("mild", "per_ip", 2_000, 1, r#", "strategy": {"type": "graceful", "forward": {"path": "/lite"}}"#),
        rule("hard", "global", 5_000, 1, r#", "strategy": "hard""#),
        rule(
            "late",
            "per_endpoint",
            1_000,
            1,
            r#", "endpoints": ["/a", "/b"], "algorithm": "sliding_window",
            "strategy": {"type": "throttle", "max_delay_ms": 2000, "max_waiting": 50}"#,
        ),
    ];
    let (host, id) = serve(&module, 2, &policy(&rules.join(",")));
    let mut streams = Vec::new();
    for number in 0..20_000_usize {
        let path = ["/a", "/b", "/c"][number % 3];
        let request = from(&format!("u{}", number % 7)).set_header(":path", path);
        let stream = host.request(number % 2, &id, request);
        if number % 5 == 0 {
            stream.disconnect();
        }
        streams.push(stream);
        if number % 50 == 0 {
            host.advance(MS);
        }
    }
    host.advance(5 * SECOND);
    assert!(!streams.iter().any(held), "nobody waits");
    assert_eq!(waiting(&host), 0, "and nobody is thought to");
    host.reset_calls();
    host.advance(60 * SECOND);
    assert_eq!(host.calls().total(), 0, "no timer runs");
    assert_eq!(messages(&host, LogLevel::Error), [""; 0]);
}
