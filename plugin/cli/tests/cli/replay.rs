//! `replay`: logs of every format, bad lines, two policies, and a real site's log.

use std::path::Path;

use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::described::Described;
use tidegate_engine::policy::Policy;
use tidegate_engine::{Engine, Memory, Step, Timestamp};
use xtask::skip;

use crate::run::{DEFAULT, Folder};

const POLICY: &str = r#"{"version": 1, "rules": [{"name": "ip", "scope": "per_ip", "rate": 2, "window_seconds": 60}]}"#;

fn combined(second: u32, ip: &str) -> String {
    format!("{ip} - - [17/May/2015:10:05:{second:02} +0000] \"GET /x HTTP/1.1\" 200 5 \"-\" \"curl\"\n")
}

#[test]
fn every_format_of_one_log_gives_the_same() {
    let folder = Folder::new();
    folder.write("p.json", POLICY);
    let [mut apache, mut hosts, mut own, mut envoy, mut text, mut millis] = [const { String::new() }; 6];
    for (second, ip) in [(3, "192.0.2.1"), (1, "192.0.2.1"), (2, "192.0.2.1"), (4, "192.0.2.2")] {
        apache.push_str(&combined(second, ip));
        hosts.push_str(&format!("www.example.org:443 {}", combined(second, ip)));
        text.push_str(&format!("[2015-05-17T10:05:{second:02}.000Z] \"GET /x HTTP/2\" 200 - 0 5 1 1 \"10.9.9.9, {ip}\" \"curl\" \"0-0\" \"a.test\" \"10.0.2.1:80\"\n"));
        millis.push_str(&format!(
            "{{\"ts\": \"{}\", \"ip\": \"{ip}\", \"method\": \"GET\", \"path\": \"/x\"}}\n",
            (1_431_857_100 + u64::from(second)) * 1000
        ));
        own.push_str(&format!(
            "{{\"ts\": {}, \"ip\": \"{ip}\", \"method\": \"GET\", \"path\": \"/x\", \"status\": 200}}\n",
            1_431_857_100 + second
        ));
        envoy.push_str(&format!("{{\"start_time\": \"2015-05-17T10:05:{second:02}.000Z\", \"downstream_remote_address\": \"{ip}:9\", \"method\": \"GET\", \"path\": \"/x\", \"response_code\": 200}}\n"));
    }
    let expected = "\
4 requests from 2015-05-17T10:05:01Z to 2015-05-17T10:05:04Z

p.json
allowed 3 (75.0 %)
limited 1 (25.0 %)

RULE  TOTAL  ALLOWED  LIMITED  DELAYED  QUEUED  DEGRADED  SHADOW  FIRST LIMITED
ip        4        3        1        0       0         0       0  2015-05-17T10:05:03Z

worst offenders
TIMES  RULE  WHO        FIRST                 LAST
    1  ip    192.0.2.1  2015-05-17T10:05:03Z  2015-05-17T10:05:03Z
";
    for (text, format) in
        [(apache, "combined"), (hosts, "combined"), (own, "json"), (millis, "json"), (envoy, "envoy"), (text, "envoy")]
    {
        folder.write("log", &text);
        assert_eq!(folder.run(&["replay", "log", "--policy", "p.json"]).clean(0), expected, "{format}");
        assert_eq!(folder.run(&["replay", "log", "--policy", "p.json", "--format", format]).clean(0), expected);
    }
    let replay = "tidegate replay - --policy p.json";
    assert_eq!(folder.shell(&format!("{replay} < log")).clean(0), expected);
    // A byte-order mark, gzip, two members of it, and both.
    assert_eq!(folder.shell(&format!("(printf '\\357\\273\\277'; cat log) | {replay}")).clean(0), expected);
    assert_eq!(folder.shell(&format!("gzip -c log | {replay}")).clean(0), expected);
    let two = format!("(head -n 2 log | gzip; tail -n 2 log | gzip) | {replay}");
    assert_eq!(folder.shell(&two).clean(0), expected);
    let both = "(printf '\\357\\273\\277'; cat log) | gzip > log.gz && tidegate replay log.gz --policy p.json";
    assert_eq!(folder.shell(both).clean(0), expected);
    let cut = folder.shell(&format!("gzip -c log | head -c 40 | {replay}"));
    assert!(cut.out.is_empty() && cut.complaint(2).starts_with("tidegate: cannot read -: "));
}

#[test]
fn what_is_no_log_is_not_a_log_of_nothing() {
    let folder = Folder::new();
    folder.write("p.json", POLICY);
    folder.write("log", "hello\nworld\n");
    for more in [&[][..], &["--json"]] {
        let ran = folder.run(&[&["replay", "log", "--policy", "p.json"], more].concat());
        assert_eq!(ran.out, "");
        let expected = "tidegate: log: no line of 2 is a request\n  line 1: no client address: hello\n  line 2: no client \
                        address: world\nallowed: Apache's and nginx's combined, ";
        let complaint = ran.complaint(2);
        assert!(complaint.starts_with(expected) && complaint.contains("compressed with gzip"), "{complaint}");
    }
    folder.write("log", &combined(1, "192.0.2.1"));
    let complaint = folder.run(&["replay", "log", "--policy", "p.json", "--format", "envoy"]).complaint(2);
    assert!(complaint.ends_with("allowed: Envoy's or Istio's default access log, as text or JSON\n"), "{complaint}");
}

#[test]
fn a_log_in_the_wrong_order_says_that_counters_began_anew() {
    let folder = Folder::new();
    folder.write("p.json", POLICY);
    let late: String = (1..3).map(|second| combined(second, "192.0.2.1").replace("17/May", "18/May")).collect();
    let early: String = (1..3).map(|second| combined(second, "192.0.2.1")).collect();
    folder.write("log", &(late + &early));
    let shown = folder.run(&["replay", "log", "--policy", "p.json"]).clean(0);
    assert!(shown.contains("stepped back by more than an hour once: counters began anew there"), "{shown}");
    assert!(shown.contains("allowed 4 (100.0 %)\n"), "{shown}");
}

#[test]
fn bad_lines_are_counted_and_shown() {
    let folder = Folder::new();
    folder.write("p.json", POLICY);
    let long = format!("192.0.2.1 - - [17/May/2015:10:05:01 +0000] \"GET /{} HTTP/1.1\" 200 5\n", "x".repeat(100_000));
    folder.write(
        "log",
        &format!("{}\nhello\x1b[2J\n{{\"ts\": 1}}\r\n{long}{}", combined(1, "192.0.2.1"), combined(2, "192.0.2.1")),
    );
    let json = folder.run(&["replay", "log", "--policy", "p.json", "--json"]).json();
    assert_eq!((&json["report"]["requests"], &json["bad_lines"]["count"]), (&2.into(), &3.into()));
    let shown = folder.run(&["replay", "log", "--policy", "p.json"]).clean(0);
    assert!(shown.contains("3 bad lines passed over\n  line 3: no client address: hello\\u{1b}[2J\n"), "{shown}");
    assert!(
        shown.contains("  line 4: no client address: {\"ts\": 1}\n  line 5: longer than 64 KiB: 192.0.2.1"),
        "{shown}"
    );
    folder.write("log", "");
    assert!(folder.run(&["replay", "log", "--policy", "p.json"]).clean(0).starts_with("0 requests\n"));
}

#[test]
fn a_candidate_shows_what_it_would_change() {
    let folder = Folder::new();
    folder.write("p.json", POLICY);
    folder.write("q.json", &POLICY.replace("\"rate\": 2", "\"rate\": 1"));
    folder.write("log", &(1..4).map(|second| combined(second, "192.0.2.1")).collect::<String>());
    let shown = folder.run(&["replay", "log", "--policy", "p.json", "--candidate", "q.json"]).clean(0);
    assert!(shown.contains("\nwhat it would change\nREQUESTS  NOW      THEN\n       1  allowed  limited\n"), "{shown}");
    let same = folder.run(&["replay", "log", "--policy", "p.json", "--candidate", "p.json"]).clean(0);
    assert!(same.ends_with("\nno request would end in another way\n"), "{same}");
}

/// The lines in the order of their times, each decided by the engine itself: the replay must count the same.
#[test]
fn a_real_log_gives_what_the_engine_decides() {
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/site-2015.log");
    let Ok(text) = std::fs::read_to_string(&log) else {
        skip::tell("replay of a real log", "there is no site-2015.log in ../shared/data, beside the checkout");
        return;
    };
    let mut lines: Vec<(u64, String, &str, &str)> = text.lines().map(plain).collect();
    lines.sort_by_key(|line| line.0);
    let engine = Engine::new(Policy::parse(DEFAULT.as_bytes(), &Catalogue::builtin()).unwrap());
    let mut memory = Memory::new(65_536, [0; 16]);
    let (mut limited, mut of_ip) = (0, 0);
    for (second, ip, method, path) in &lines {
        let described =
            Described { method: (*method).into(), path: (*path).into(), ip: ip.clone(), ..Described::default() };
        let decision = described.as_request(&engine, |request| {
            let Step::Pending(pending) = engine.check(request, Timestamp::from_micros(second * 1_000_000)) else {
                panic!()
            };
            let reply = memory.acquire(&engine, pending.acquire());
            let Step::Done(decision) = pending.resume(Ok(reply)) else { panic!() };
            decision
        });
        limited += u64::from(decision.outcome() == "limited");
        of_ip += u64::from(decision.verdicts.iter().any(|verdict| verdict.rule == 2 && verdict.limited));
    }
    let folder = Folder::new();
    folder.write("p.json", DEFAULT);
    let json = folder.run(&["replay", &log.display().to_string(), "--policy", "p.json", "--json"]).json();
    assert_eq!(json["report"]["requests"], 7000);
    assert_eq!((&json["bad_lines"]["count"], &json["report"]["late"]), (&0.into(), &0.into()));
    assert_eq!(json["report"]["policy"]["outcomes"]["limited"], limited);
    assert_eq!(json["report"]["policy"]["rules"][2]["limited"], of_ip);
    assert!(limited > 0);
}

/// Seconds since 15 May 2015 (all of the log is of May), address, method, path.
fn plain(line: &str) -> (u64, String, &str, &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let time: Vec<u64> =
        [(1, 3), (13, 15), (16, 18), (19, 21)].map(|(from, to)| words[3][from..to].parse().unwrap()).to_vec();
    // 1 May 2015 00:00:00 UTC.
    let seconds = 1_430_438_400 + (time[0] - 1) * 86_400 + time[1] * 3600 + time[2] * 60 + time[3];
    (seconds, words[0].to_owned(), words[5].trim_start_matches('"'), words[6])
}
