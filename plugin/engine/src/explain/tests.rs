//! Every reason that keeps a rule off a request, and that explaining charges nothing.

use super::*;
use crate::catalogue::Catalogue;
use crate::described::Described;
use crate::identity::Kind;
use crate::memory::Memory;
use crate::policy::Policy;

const POLICY: &str = r#"{
  "version": 1,
  "identity": {"user": [{"header": "x-user", "trust": "verified"}, {"header": "x-api-key"}], "anonymous": "skip"},
  "admins": {"user_ids": ["root"]},
  "rules": [
    {"name": "all", "scope": "global", "rate": 2, "window_seconds": 60},
    {"name": "off", "scope": "global", "rate": 2, "window_seconds": 60, "enabled": false},
    {"name": "posts", "scope": "global", "rate": 3, "window_seconds": 60, "methods": ["POST"]},
    {"name": "vip", "scope": "per_user", "rate": 9, "window_seconds": 60, "user_ids": ["vip"], "replaces": ["all"]},
    {"name": "office", "scope": "per_ip", "rate": 9, "window_seconds": 60, "ip_addresses": ["10.0.0.0/8"]},
    {"name": "search", "scope": "per_endpoint", "rate": 9, "window_seconds": 60, "endpoints": ["/search", "/static/*"]},
    {"name": "users", "scope": "per_user", "rate": 9, "window_seconds": 60}
  ]
}"#;

fn engine() -> Engine {
    Engine::new(Policy::parse(POLICY.as_bytes(), &Catalogue::builtin()).unwrap())
}

fn described(path: &str, headers: &[(&str, &str)]) -> Described {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Described { method: "GET".into(), path: path.into(), ip: "192.0.2.1".into(), user: None, headers }
}

fn explained(engine: &Engine, memory: &Memory, described: &Described) -> Explanation {
    let now = Timestamp::from_micros(1_767_225_600_000_000);
    described
        .as_request(engine, |request| explain(engine, request, now, |acquire, request| memory.cell(acquire, request)))
}

fn obstacles(explanation: &Explanation) -> Vec<Option<Obstacle>> {
    let obstacle = |finding: &Finding| match finding {
        Finding::Applies { .. } => None,
        Finding::DoesNotApply(obstacle) => Some(*obstacle),
    };
    explanation.rules.iter().map(obstacle).collect()
}

#[test]
fn each_rule_that_does_not_apply_has_its_first_obstacle() {
    let (engine, memory) = (engine(), Memory::new(16, [0; 16]));
    let found = explained(&engine, &memory, &described("/x?q", &[("x-api-key", "vip")]));
    let expected = [
        None,
        Some(Obstacle::Disabled),
        Some(Obstacle::Method),
        Some(Obstacle::UserId),
        Some(Obstacle::Address),
        Some(Obstacle::Endpoint),
        None,
    ];
    assert_eq!(obstacles(&found), expected);
    assert_eq!((found.path_as_sent.as_slice(), found.is_admin), (&b"/x"[..], false));
    assert_eq!(found.identity.user.map(|user| user.verified), Some(false));

    let found = explained(&engine, &memory, &described("/x", &[("x-user", "vip")]));
    assert_eq!(obstacles(&found)[0], Some(Obstacle::ReplacedBy(3)));
    let found = explained(&engine, &memory, &described("/x", &[]));
    assert_eq!(obstacles(&found)[6], Some(Obstacle::NoUser));
    assert!(explained(&engine, &memory, &described("/x", &[("x-user", "root")])).is_admin);
}

#[test]
fn what_is_left_is_told_and_nothing_is_charged() {
    let (engine, mut memory) = (engine(), Memory::new(16, [0; 16]));
    let request = described("/static/..%2fsearch", &[]);
    for expected in [1, 1] {
        let found = explained(&engine, &memory, &request);
        let Finding::Applies { verdict, cells } = &found.rules[0] else { panic!("{found:?}") };
        assert_eq!((verdict.remaining, verdict.limited, cells.len()), (expected, false, 1));
        let Finding::Applies { cells, .. } = &found.rules[5] else { panic!("{found:?}") };
        let templates: Vec<&[u8]> = cells.iter().map(|cell| cell.subject.value.as_slice()).collect();
        assert_eq!(templates, [&b"/search"[..], b"/static/*"]);
        assert!(cells.iter().all(|cell| cell.subject.kind == Kind::Template && !cell.is_ceiling));
        assert_eq!(found.decision.outcome(), "allowed");
    }
    let now = Timestamp::from_micros(1_767_225_600_000_000);
    for _ in 0..2 {
        request.as_request(&engine, |request| {
            let Step::Pending(pending) = engine.check(request, now) else { panic!("no rule applies") };
            let reply = memory.acquire(&engine, pending.acquire());
            pending.resume(Ok(reply))
        });
    }
    let found = explained(&engine, &memory, &request);
    assert_eq!((found.decision.outcome(), found.decision.denial.unwrap().rule.as_str()), ("limited", "all"));
}

#[test]
fn the_words_hide_what_may_be_a_secret() {
    let (engine, memory) = (engine(), Memory::new(16, [0; 16]));
    let found = explained(&engine, &memory, &described("/x", &[("x-api-key", "hunter2")]));
    let json = found.to_json(engine.policy());
    assert!(!json.to_string().contains("hunter2"), "{json}");
    assert_eq!(json["user"]["verified"], false);
    assert_eq!(json["rules"][2]["message"], "the method is not POST");
    assert_eq!(json["rules"][0]["remaining"], 1);
    assert_eq!(json["rules"][6]["cells"][0]["kind"], "unverified_user");
}
