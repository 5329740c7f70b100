//! Answers that are none: each is a failed call, which charges nothing here, tells the log one word, and leaves the VM well.
//! Which bytes are an answer is the engine's.

use tidegate_host_test::{Answer, Response};

use crate::played::{MS, NOW, answer, error, granted, passed, proxy};
use crate::tidegate::{messages, rule};

const FIRST_OPENS: &str = r#", "breaker": {"failures": 1, "open_ms": 100}"#;

fn rules() -> [String; 1] {
    [rule("r", "per_user", 10, 60, r#", "algorithm": "fixed_window", "on_store_error": "deny""#)]
}

#[test]
fn each_is_a_failure_of_a_known_name() {
    let long = |size: usize| ["{\"result\":[", &"1,".repeat(size / 2), "1]}"].concat();
    let good = format!("{{\"result\":[1,{NOW},0,1,9,60000000,0]}}");
    let cases: [(Answer, &str); 17] = [
        (answer(200, ""), "GARBAGE"),
        (answer(200, &good[..good.len() / 2]), "GARBAGE"),
        (answer(200, &good[..good.len() - 1]), "GARBAGE"),
        (answer(200, "<html><body>SECRET-OF-THE-STORE</body></html>"), "GARBAGE"),
        (answer(200, long(600 * 1024)), "GARBAGE"),
        (answer(200, long(10 * 1024 * 1024)), "GARBAGE"),
        (answer(200, b"\xff\xfe\x00"), "GARBAGE"),
        (answer(200, good.replace(",0,1,", ",0,9000,")), "GARBAGE"),
        (answer(200, good.replace(",9,", ",11,")), "GARBAGE"),
        (answer(502, ""), "STATUS"),
        (answer(204, ""), "STATUS"),
        (answer(500, &good), "STATUS"),
        (Answer::Response(Response::new(200)), "GARBAGE"),
        (error("READONLY You can't write against a read only replica."), "READONLY"),
        (error("SECRET-OF-THE-STORE and more"), "ERR"),
        (Answer::Refused, "STATUS"),
        (Answer::Reset, "STATUS"),
    ];
    for (lie, name) in cases {
        let Some(at) = proxy(FIRST_OPENS, &rules()) else { return };
        let stream = at.from("a");
        at.says(lie);
        assert_eq!((stream.status(), at.is_asked()), (429, false), "{name}");
        assert_eq!(at.counted(), [0, 1, 0, 0, 0], "{name}");
        assert!(at.said()[0].contains(&format!("the last with {name};")), "{name}: {:?}", at.said());
        let all = messages(&at.host, tidegate_host_test::LogLevel::Trace).join("\n");
        assert!(!all.contains("SECRET-OF-THE-STORE"), "nothing that a store says reaches a log");
        at.sound();
    }
}

#[test]
fn an_answer_that_comes_too_late_is_nobodys() {
    let Some(at) = proxy("", &rules()) else { return };
    let stream = at.from("a");
    let call = at.call();
    at.host.advance(20 * MS);
    assert_eq!(stream.status(), 429);
    at.host.answer(&call, granted(&[[0, 1, 9, 60_000_000, 0]]));
    assert_eq!((stream.status(), at.counted(), at.is_asked()), (429, [0, 1, 0, 0, 0], false));
    at.sound();
}

#[test]
fn numbers_that_end_at_the_last_moment_of_time_are_no_answer() {
    let Some(at) = proxy("", &rules()) else { return };
    for number in [i64::MAX, i64::MIN, 1 << 53, -2] {
        let stream = at.from("a");
        at.says(granted(&[[0, 1, 9, number, 0]]));
        assert_eq!(stream.status(), 429, "{number}");
    }
    assert_eq!(at.counted(), [0, 4, 0, 0, 0]);
    let stream = at.from("a");
    at.says(granted(&[[0, 1, 9, (1 << 53) - (1 << 51), 0]]));
    assert!(passed(&stream), "far away, but a moment");
    at.sound();
}
