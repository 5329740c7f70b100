//! `allow_on_headers_stop_iteration`: what a plugin sees of a body whose headers it has stopped, and where the bytes go.

// Only `#[test]` functions may by themselves.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use tidegate_host_test::{Headers, Host, LogLevel, Module, Outcome, Plugin, PluginId, Request, Stream};

/// A plugin whose callbacks return what one byte each of its configuration says: headers, body, last piece of the body,
/// trailers. It logs the body that it sees in every body callback, and continues the request in a tick.
const ECHO: &str = r#"(module
    (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 4096))
    (global $held (mut i32) (i32.const 0))
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (global.get $next))
        (global.set $next (i32.add (global.get $next) (local.get $size)))
        (local.get $at))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $buffer (i32.const 7) (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4)))
        (i32.store (i32.const 8) (i32.load (i32.load (i32.const 0))))
        (drop (call $tick (i32.const 1000)))
        (i32.const 1))
    (func $says (param $which i32) (result i32)
        (i32.sub (i32.load8_u offset=8 (local.get $which)) (i32.const 48)))
    (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
        (global.set $held (local.get $id))
        (call $says (i32.const 0)))
    (func (export "proxy_on_request_body") (param i32) (param $size i32) (param $end i32) (result i32)
        (i32.store (i32.const 4) (i32.const 0))
        (drop (call $buffer (i32.const 0) (i32.const 0) (local.get $size) (i32.const 0) (i32.const 4)))
        (drop (call $log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
        (call $says (i32.add (i32.const 1) (local.get $end))))
    (func (export "proxy_on_request_trailers") (param i32 i32) (result i32)
        (call $says (i32.const 3)))
    (func (export "proxy_on_tick") (param i32)
        (if (global.get $held) (then
            (drop (call $effective (global.get $held)))
            (global.set $held (i32.const 0))
            (drop (call $continue (i32.const 0)))))))"#;

struct Case {
    host: Host,
    id: PluginId,
}

impl Case {
    fn new(says: &str, allow: bool, limit: usize) -> Self {
        let module = Module::from_bytes(ECHO.as_bytes()).unwrap();
        let host = Host::builder().buffer_limit(limit).build();
        let plugin = Plugin::new(&module).configuration(says).allow_on_headers_stop_iteration(allow);
        let id = host.load(plugin).unwrap();
        Self { host, id }
    }

    /// A POST whose body comes in these pieces, the last one with the end.
    fn send(&self, pieces: &[&str]) -> Stream {
        let stream = self.host.request(0, &self.id, Request::new("POST", "/").open());
        for (index, piece) in pieces.iter().enumerate() {
            stream.send_body(piece, index + 1 == pieces.len());
        }
        stream
    }

    /// What each body callback saw.
    fn seen(&self) -> Vec<String> {
        self.host.logs().into_iter().filter(|line| line.level == LogLevel::Info).map(|line| line.message).collect()
    }

    fn tick(&self) {
        self.host.advance(std::time::Duration::from_secs(1));
    }
}

fn text(stream: &Stream) -> String {
    let message = stream.upstream_request().expect("it went on");
    assert!(message.complete);
    message.text()
}

#[test]
fn without_the_option_every_stop_holds_the_body_back_too() {
    for headers in 1..=4 {
        let case = Case::new(&format!("{headers}000"), false, 1 << 20);
        let stream = case.send(&["one ", "two"]);
        assert_eq!((stream.outcome(), case.seen().len()), (Outcome::Paused, 0), "result {headers}");
        case.tick();
        assert_eq!((text(&stream), case.seen()), ("one two".to_owned(), vec!["one two".to_owned()]));
    }
}

#[test]
fn with_it_only_result_one_lets_the_body_be_seen() {
    for headers in 2..=4 {
        let case = Case::new(&format!("{headers}000"), true, 1 << 20);
        case.send(&["one ", "two"]);
        assert_eq!(case.seen().len(), 0, "result {headers}");
    }
    let case = Case::new("1220", true, 1 << 20);
    case.send(&["one ", "two"]);
    assert_eq!(case.seen(), ["one ", "two"]);
}

#[test]
fn a_body_that_continues_takes_its_headers_along() {
    let case = Case::new("1000", true, 1 << 20);
    let stream = case.send(&["one ", "two"]);
    assert_eq!(text(&stream), "one two");
    assert_eq!(stream.status(), 200);
}

#[test]
fn a_buffered_body_is_seen_from_its_start_each_time() {
    let case = Case::new("1100", true, 1 << 20);
    let stream = case.send(&["one ", "two ", "three"]);
    assert_eq!(case.seen(), ["one ", "one two ", "one two three"]);
    assert_eq!(text(&stream), "one two three", "the last piece continued");
}

#[test]
fn a_buffered_body_above_the_limit_is_413() {
    let case = Case::new("1110", true, 8);
    let stream = case.send(&["12345678"]);
    assert_eq!(stream.outcome(), Outcome::Paused, "as much as the limit is borne");
    let stream = case.send(&["12345", "6789"]);
    assert_eq!((stream.status(), stream.upstream_request()), (413, None));
}

#[test]
fn a_watermarked_body_is_seen_once_and_has_no_limit() {
    let case = Case::new("1220", true, 8);
    let stream = case.send(&["12345", "6789", "0"]);
    assert_eq!(case.seen(), ["12345", "6789", "0"]);
    assert_eq!(stream.outcome(), Outcome::Paused);
    case.tick();
    assert_eq!(text(&stream), "1234567890");
}

#[test]
fn a_dropped_piece_never_reaches_the_upstream() {
    let case = Case::new("1300", true, 1 << 20);
    let stream = case.send(&["gone ", "also gone ", "kept"]);
    assert_eq!(case.seen(), ["gone ", "also gone ", "kept"]);
    assert_eq!(text(&stream), "kept");
}

#[test]
fn trailers_are_shown_behind_a_held_body_and_hold_or_free_it() {
    for (says, waits) in [("1110", false), ("1220", false), ("1221", true)] {
        let case = Case::new(says, true, 1 << 20);
        let stream = case.host.request(0, &case.id, Request::new("POST", "/").open());
        stream.send_body("body", false);
        stream.send_trailers(Headers::new().with("t", "1"));
        assert_eq!(stream.outcome() == Outcome::Paused, waits, "{says}");
        case.tick();
        assert_eq!(text(&stream), "body", "{says}");
        assert_eq!(stream.upstream_request().unwrap().trailers.unwrap().len(), 1);
    }
}

#[test]
fn stopped_headers_can_be_resumed_before_any_body() {
    let case = Case::new("1000", true, 1 << 20);
    let stream = case.host.request(0, &case.id, Request::new("POST", "/").open());
    assert_eq!(stream.outcome(), Outcome::Paused);
    case.tick();
    assert!(matches!(stream.outcome(), Outcome::Forwarded(_)));
    stream.send_body("late", true);
    assert_eq!(text(&stream), "late");
}
