//! Alerts on a clock that the tests set.

use super::kept::{Kept, LEASE, Watcher};
use super::notice::{Fate, TRIES};
use super::*;
use crate::catalogue::Catalogue;
use crate::policy::{Policy, json};
use crate::time::Micros;

const START: u64 = 1_800_000_000_000_000;

pub(super) fn at(seconds: u64) -> Moment {
    Moment {
        steady: Timestamp::from_micros(seconds * 1_000_000),
        wall: Timestamp::from_micros(START + seconds * 1_000_000),
    }
}

fn alert(when: Condition, for_seconds: u64, cooldown_seconds: u64) -> Alert {
    Alert {
        name: "a".to_owned(),
        when,
        rule: None,
        holds_for: Micros::from_secs(for_seconds),
        cooldown: Micros::from_secs(cooldown_seconds),
        webhook: None,
    }
}

fn measured(is_above: bool) -> Measure {
    Measure { value: u64::from(is_above) * 1_000_000, is_above, top: None }
}

/// The events of a history of measurements, a second apart from second 0 on, each with its second.
fn events(alert: &Alert, history: impl IntoIterator<Item = bool>) -> Vec<(u64, Event)> {
    let mut state = State::new("a");
    let step = |(second, above): (u64, bool)| {
        state.step(alert, Some(&measured(above)), at(second)).map(|event| (second, event))
    };
    (0..).zip(history).filter_map(step).collect()
}

fn runs(runs: &[(bool, usize)]) -> Vec<bool> {
    runs.iter().flat_map(|(above, seconds)| core::iter::repeat_n(*above, *seconds)).collect()
}

#[test]
fn it_fires_once_it_was_held_and_resolves_at_once() {
    let alert = alert(Condition::StoreUnhealthy, 10, 0);
    let history = runs(&[(false, 5), (true, 10), (false, 1), (true, 11), (true, 30), (false, 5)]);
    // Ten seconds above from second 5 to 14 are nine seconds apart; from 16 on it is held until 26.
    assert_eq!(events(&alert, history), [(26, Event::Firing), (57, Event::Resolved)]);
}

#[test]
fn without_for_seconds_it_fires_with_its_first_measurement() {
    let alert = alert(Condition::StoreUnhealthy, 0, 0);
    assert_eq!(events(&alert, [false, true, false]), [(1, Event::Firing), (2, Event::Resolved)]);
}

#[test]
fn it_is_silent_during_the_cooldown_and_tells_of_what_still_fires_after_it() {
    let alert = alert(Condition::StoreUnhealthy, 0, 60);
    let flapping = (0..50).map(|second| second % 2 == 1);
    assert_eq!(events(&alert, flapping), [(1, Event::Firing), (2, Event::Resolved)]);
    let history = runs(&[(true, 1), (false, 9), (true, 20), (false, 10), (true, 40), (false, 1)]);
    // Of the second firing, second 10 to 29, nothing is told, and so nothing of its end.
    assert_eq!(
        events(&alert, history),
        [(0, Event::Firing), (1, Event::Resolved), (60, Event::Firing), (80, Event::Resolved)]
    );
}

#[test]
fn no_measurement_changes_nothing_and_the_state_survives_being_kept() {
    let alert = alert(Condition::StoreUnhealthy, 10, 60);
    let mut kept = Kept { states: vec![State::new("a")], ..Kept::default() };
    let mut told = Vec::new();
    for second in 0..20 {
        // The worker dies every third second: the next one knows what was written, and has not measured yet.
        let measure = (second % 3 != 0).then(|| measured(true));
        kept = Kept::read(&kept.bytes());
        told.extend(kept.states[0].step(&alert, measure.as_ref(), at(second)).map(|event| (second, event)));
    }
    assert_eq!(told, [(11, Event::Firing)]);
    assert_eq!(kept.states[0].phase, Phase::Firing);
}

#[test]
fn a_clock_that_steps_back_neither_fires_nor_resolves_nor_silences_for_ever() {
    let alert = alert(Condition::StoreUnhealthy, 10, 60);
    let mut state = State::new("a");
    assert_eq!(state.step(&alert, Some(&measured(true)), at(1_000)), None);
    assert_eq!(state.step(&alert, Some(&measured(true)), at(5)), None, "it waits anew");
    assert_eq!(state.step(&alert, Some(&measured(true)), at(14)), None);
    assert_eq!(state.step(&alert, Some(&measured(true)), at(15)), Some(Event::Firing));
    assert_eq!(state.step(&alert, Some(&measured(true)), at(2)), None);
    assert_eq!(state.step(&alert, Some(&measured(false)), at(3)), Some(Event::Resolved));
    let later: Vec<u64> = (4..200)
        .filter(|second| state.step(&alert, Some(&measured(true)), at(*second)) == Some(Event::Firing))
        .collect();
    assert_eq!(later, [62], "a cooldown after the step");
}

/// A fixed generator, so that a failure is found again.
pub(super) fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn over_random_histories_events_alternate_are_earned_and_keep_the_cooldown() {
    for mut seed in 0..400 {
        let (holds, cooldown) = (random(&mut seed) % 8, random(&mut seed) % 30);
        let alert = alert(Condition::StoreUnhealthy, holds, cooldown);
        let mut state = State::new("a");
        let (mut above_for, mut last_fired, mut is_told) = (0_u64, None::<u64>, false);
        for second in 0..300 {
            let above = !random(&mut seed).is_multiple_of(6);
            above_for = if above { above_for + 1 } else { 0 };
            let event = state.step(&alert, Some(&measured(above)), at(second));
            // What must be, said a second time: above at holds + 1 measurements is held for `holds` seconds.
            let fires = above_for > holds;
            assert_eq!(state.phase == Phase::Firing, fires, "seed {seed}, second {second}");
            let may_tell = fires && !is_told && last_fired.is_none_or(|at| second - at >= cooldown);
            let expected = match (may_tell, is_told && !fires) {
                (true, _) => Some(Event::Firing),
                (_, true) => Some(Event::Resolved),
                _ => None,
            };
            assert_eq!(event, expected, "seed {seed}, second {second}");
            match event {
                Some(Event::Firing) => (is_told, last_fired) = (true, Some(second)),
                Some(Event::Resolved) => is_told = false,
                None => {}
            }
        }
    }
}

fn policy(alerts: &str) -> Policy {
    let text = format!(
        r#"{{"version": 1, "rules": [{{"name": "r", "scope": "global", "rate": 1, "window_seconds": 1}}], "alerts": [{alerts}]}}"#
    );
    Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn watcher(id: &str, policy: &str, configured_at: u64) -> Watcher {
    Watcher { id: id.to_owned(), policy: policy.to_owned(), configured_at: at(configured_at).steady }
}

#[test]
fn a_turn_is_renewed_passes_on_when_it_ends_and_goes_to_the_newer_policy() {
    let policy = policy(r#"{"name": "a", "when": "store_unhealthy"}"#);
    let (first, second, newer) = (watcher("1", "p", 10), watcher("2", "p", 11), watcher("3", "q", 50));
    let mut kept = Kept::default();
    assert!(kept.is_turn_of(&first, at(12).steady), "it is nobody's");
    assert!(kept.take_turn(&first, &policy, at(12).steady).is_empty());
    for now in 12..17 {
        assert!(kept.is_turn_of(&first, at(now).steady));
        assert!(!kept.is_turn_of(&second, at(now).steady));
    }
    assert!(kept.is_turn_of(&second, at(12).steady + LEASE), "the first is dead");
    assert!(kept.is_turn_of(&second, at(11).steady), "the turn lies ahead of the clock: it stepped back");
    kept.take_turn(&first, &policy, at(60).steady);
    assert!(kept.is_turn_of(&newer, at(60).steady), "at once");
    kept.take_turn(&newer, &policy, at(61).steady);
    assert!(!kept.is_turn_of(&first, at(1_000).steady), "never again, however long the new ones are silent");
    assert!(kept.is_turn_of(&watcher("4", "q", 70), at(1_000).steady));
}

#[test]
fn alerts_keep_their_state_over_a_new_policy_and_those_that_go_are_named() {
    let before = policy(
        r#"{"name": "a", "when": "store_unhealthy"}, {"name": "b", "when": "hit_rate_above", "value": 0.5, "rule": "r"}"#,
    );
    let mut kept = Kept::default();
    kept.take_turn(&watcher("1", "p", 0), &before, at(1).steady);
    for (state, alert) in kept.states.iter_mut().zip(&before.alerts) {
        assert_eq!(state.step(alert, Some(&measured(true)), at(2)), Some(Event::Firing));
    }
    let shown = kept.shown(&before).to_json();
    assert_eq!(
        shown,
        r#"[{"name":"a","when":"store_unhealthy","rule":null,"value":1000000,"threshold":null,"state":"firing","since":"2027-01-15T08:00:02.000000Z"},"#
            .to_owned()
            + r#"{"name":"b","when":"hit_rate_above","rule":"r","value":1,"threshold":0.5,"state":"firing","since":"2027-01-15T08:00:02.000000Z"}]"#
    );
    let after = policy(r#"{"name": "c", "when": "store_unhealthy"}, {"name": "b", "when": "store_unhealthy"}"#);
    let mut kept = Kept::read(&kept.bytes());
    assert_eq!(kept.take_turn(&watcher("1", "q", 3), &after, at(4).steady), ["a"]);
    let phases: Vec<_> = kept.states.iter().map(|state| (state.name.as_str(), state.phase)).collect();
    assert_eq!(phases, [("c", Phase::Inactive), ("b", Phase::Firing)]);
}

#[test]
fn any_bytes_are_a_state() {
    let mut kept = Kept::default();
    kept.take_turn(&watcher("1", "p", 0), &policy(r#"{"name": "a", "when": "store_unhealthy"}"#), at(1).steady);
    kept.states[0].send("x".to_owned(), at(1));
    let bytes = kept.bytes();
    assert_eq!(Kept::read(&bytes), kept);
    for cut in 0..bytes.len() {
        let _ = Kept::read(&bytes[..cut]);
        let mut changed = bytes.clone();
        changed[cut] ^= 0x15;
        let mut read = Kept::read(&changed);
        let _ = read.is_turn_of(&watcher("2", "p", 0), at(2).steady);
        read.take_turn(&watcher("2", "p", 0), &policy(""), at(2).steady);
    }
}

#[test]
fn a_notice_is_tried_five_times_with_growing_waits() {
    let mut state = State::new("a");
    state.send("body".to_owned(), at(0));
    let mut tries = Vec::new();
    let mut fate = None;
    for second in 0..60 {
        if let Some(body) = state.take_due(at(second)).map(str::to_owned) {
            tries.push(second);
            fate = state.answered(&body, false, at(second));
        }
    }
    assert_eq!(tries, [0, 1, 3, 7, 15]);
    assert_eq!(fate, Some(Fate::GivenUp));
    assert_eq!(tries.len() as u64, TRIES);
    assert_eq!(state.answered("body", true, at(61)), None, "it is gone");
}

#[test]
fn notices_leave_in_order_and_one_that_nobody_answers_for_is_sent_again() {
    let mut state = State::new("a");
    state.send("firing".to_owned(), at(0));
    state.send("resolved".to_owned(), at(1));
    assert_eq!(state.take_due(at(1)), Some("firing"));
    assert_eq!(state.take_due(at(2)), None, "it is under way");
    assert_eq!(state.take_due(at(11)), Some("firing"), "whoever sent it died");
    assert_eq!(state.answered("firing", true, at(12)), Some(Fate::Taken));
    assert_eq!(state.take_due(at(12)), Some("resolved"));
    for second in [22, 32, 42, 52] {
        assert!(!state.give_up_lost(at(second)));
        assert_eq!(state.take_due(at(second)), Some("resolved"));
    }
    assert!(state.give_up_lost(at(62)));
    assert_eq!(state.take_due(at(63)), None);
    state.send("late".to_owned(), at(1_000));
    assert_eq!(state.take_due(at(5)), None);
    assert_eq!(state.take_due(at(15)), Some("late"), "a clock that stepped back delays it by ten seconds");
    for number in 0..9 {
        state.send(number.to_string(), at(70));
    }
    state.take_due(at(90));
    assert_eq!(state.answered("5", true, at(90)), Some(Fate::Taken), "the oldest were pushed out");
}

#[test]
fn what_is_told_is_one_line_of_json_in_ascii() {
    let policy = policy(r#"{"name": "a", "when": "top_violator_share_above", "value": 0.5, "rule": "r"}"#);
    let alert = &policy.alerts[0];
    let key = "zo\u{eb} \u{1b}[2J\n{\"status\":\"resolved\"} \u{202e}\u{9b}";
    let measure = Measure { value: 750_000, is_above: true, top: Some(("user", key.to_owned())) };
    let mut state = State::new("a");
    let event = state.step(alert, Some(&measure), at(7)).unwrap();
    let fired = state.told(alert, Some("r"), "default", (event, &measure), at(7));
    assert!(fired.is_ascii() && !fired.contains(['\u{1b}', '\n', '\u{7f}']), "{fired}");
    let node = json::parse(fired.as_bytes()).unwrap();
    let words = ["status", "alert", "when", "rule", "namespace", "at"].map(|name| node.word(name).unwrap());
    assert_eq!(words, ["firing", "a", "top_violator_share_above", "r", "default", "2027-01-15T08:00:07.000000Z"]);
    let numbers = ["value", "threshold"].map(|name| node.get(name).and_then(crate::policy::Node::number));
    assert_eq!(numbers, [Some(0.75), Some(0.5)]);
    assert_eq!(node.get("top_violator").unwrap().word("key"), Some(key));
    let over = Measure { value: 0, is_above: false, top: None };
    let event = state.step(alert, Some(&over), at(9)).unwrap();
    let resolved = json::parse(state.told(alert, Some("r"), "default", (event, &over), at(9)).as_bytes()).unwrap();
    assert_eq!(resolved.word("status"), Some("resolved"));
    assert_eq!(resolved.word("id"), node.word("id"), "a firing and its end belong together");
}
