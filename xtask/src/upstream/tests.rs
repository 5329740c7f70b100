//! Tests of the upstream, and with it of the client.

use std::time::Duration;

use super::*;
use crate::load::{Client, Request, raw};

#[test]
fn it_answers_with_what_it_was_asked_over_both_protocols() {
    let upstream = Upstream::start().unwrap();
    for client in [Client::http1(upstream.address(), 1).unwrap(), Client::http2(upstream.address(), 1, 1).unwrap()] {
        let request = Request::new("POST", "/a/b?c=d").header("x-twice", "1").header("x-twice", "2").body("abc");
        let answer = client.send(&request).unwrap();
        assert_eq!(answer.status, 200);
        let report = answer.json().unwrap();
        assert_eq!(report["method"], "POST");
        assert_eq!(report["path"], "/a/b?c=d");
        assert_eq!(report["headers"]["x-twice"], serde_json::json!(["1", "2"]));
        assert_eq!(report["body_bytes"], 3);
        assert!(report["body_sha256"].as_str().unwrap().starts_with("ba7816bf"));
    }
    let arrivals = upstream.arrivals();
    assert_eq!(arrivals.len(), 2);
    assert_eq!(arrivals[0].body, "abc");
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn paths_ask_for_a_status_or_a_delay() {
    let upstream = Upstream::start().unwrap();
    let client = Client::http1(upstream.address(), 1).unwrap();
    assert_eq!(client.send(&Request::get("/status/418/tea")).unwrap().status, 418);
    let slow = client.send(&Request::get("/delay/120")).unwrap();
    assert_eq!(slow.status, 200);
    assert!(slow.took >= Duration::from_millis(120), "{:?}", slow.took);
}

#[test]
fn every_third_request_fails_when_told_so() {
    let upstream = Upstream::start().unwrap();
    upstream.fail_every(3);
    let client = Client::http1(upstream.address(), 1).unwrap();
    let statuses: Vec<u16> = (0..6).map(|_| client.send(&Request::get("/")).unwrap().status).collect();
    assert_eq!(statuses, [200, 200, 503, 200, 200, 503]);
}

#[test]
fn grpc_gets_its_message_back_and_a_status_in_the_trailers() {
    let upstream = Upstream::start().unwrap();
    let client = Client::http2(upstream.address(), 1, 1).unwrap();
    let message = b"\0\0\0\0\x02hi".as_slice();
    let answer =
        client.send(&Request::new("POST", "/s/m").header("content-type", "application/grpc").body(message)).unwrap();
    assert_eq!(answer.body, message);
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[test]
fn a_websocket_is_accepted_and_echoes() {
    let upstream = Upstream::start().unwrap();
    let bytes = b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nping";
    let answer = raw(upstream.address(), bytes, Duration::from_millis(500)).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nping"), "{answer}");
}

#[test]
fn thousands_at_once_all_get_their_own_answer() {
    let upstream = Upstream::start().unwrap();
    for client in [Client::http1(upstream.address(), 500).unwrap(), Client::http2(upstream.address(), 4, 500).unwrap()]
    {
        let requests = (0..2000).map(|n| Request::get(&format!("/{n}"))).collect();
        for (n, answer) in client.send_all(requests).into_iter().enumerate() {
            assert_eq!(answer.unwrap().json().unwrap()["path"], format!("/{n}"));
        }
    }
    assert_eq!(upstream.requests(), 4000);
}

#[test]
fn a_request_that_should_wait_is_sent_at_its_time() {
    let upstream = Upstream::start().unwrap();
    let client = Client::http1(upstream.address(), 4).unwrap();
    let requests = [0, 100, 200].map(|ms| Request::get("/").at(Duration::from_millis(ms))).to_vec();
    let answers = client.send_all(requests);
    for (answer, earliest) in answers.into_iter().zip([0, 100, 200]) {
        let sent = answer.unwrap().sent;
        assert!(sent >= Duration::from_millis(earliest) && sent < Duration::from_millis(earliest + 90), "{sent:?}");
    }
}

#[test]
fn a_port_without_server_is_an_error_that_names_it() {
    let address = Upstream::start().unwrap().address();
    std::thread::sleep(Duration::from_millis(50));
    let client = Client::http1(address, 1).unwrap();
    let message = format!("{:#}", client.send(&Request::get("/x")).unwrap_err());
    assert!(message.contains("/x") && message.contains(&address.to_string()), "{message}");
}
