//! Mistakes made in the script on purpose. Each must be found by the histories, or the histories are worth nothing.
//! A line that is no longer in the script fails the test too: then the mistake must be made anew.

use super::{Virtual, history};
use crate::skip;

/// What stands in the script, once, and what is put in its place.
const MUTANTS: &[(&str, &str)] = &[
    ("if count >= ARGV[4] + 0 then return { 0, count } end", ""),
    ("if count >= ARGV[4] + 0", "if count > ARGV[4] + 0"),
    ("if call('EXISTS', key) == 0 then", "if true then"),
    ("  call('ZREM', line(rule), id)\n  call('HSET'", "  call('HSET'"),
    ("call('ZADD', dead, now, id)", ""),
    ("if state == 'done' then\n    call('HDEL'", "if true then\n    call('HDEL'"),
    ("call('HDEL', key, 'd')\n    call('PEXPIRE', key, life)", "call('PEXPIRE', key, life)"),
    ("call('ZADD', line(rule), now + hold, id)", ""),
    ("if of[5] == ticket and not of[6] then", "if not of[6] then"),
    ("if of[5] == ticket and not of[6] then", "if of[5] == ticket then"),
    ("if #held > 0 or left < 1 then share = 0 end", ""),
    ("'-inf', now, 'WITHSCORES'", "'-inf', '+inf', 'WITHSCORES'"),
    ("elseif of[3] - of[5] >= 0 then", "elseif of[3] - of[5] > 0 then"),
    ("failed = failed + 1", ""),
    ("call('HSET', key, 'c', ticket)", ""),
    ("call('SADD', holds, id)", ""),
    ("call('HINCRBY', key, 'n', 1)", "of[3]"),
    ("math.min(lag, last + lag + gap - own)", "lag"),
    ("last + lag + gap - own", "last + lag - own"),
    ("last + lag + gap - own", "last + gap - own"),
    (", least - own, 0)", ", 0)"),
    ("math.max(last, own)", "own"),
    ("if lag > 0 then", "if lag < 0 then"),
    ("return own + lag", "return own"),
    ("own and of[3] == '0'", "own"),
    ("local LATE = 1500", "local LATE = 1900"),
    ("if at - own > 0 then lags = 1 end", ""),
    ("if at > now then", "if at > now + 200 then"),
    ("call('ZADD', set, at, id)", ""),
    ("(lags > 0 or first - now <= 0)", "first - now <= 0"),
    ("math.min(answer[1], wait)", "wait"),
    ("math.min(answer[1], wait)", "answer[1]"),
    ("if count == 0 then call('SREM', rules, rule) else", "if count >= 0 then"),
    ("if ended or of[4] ~= '0' then return { 0 } end", "if ended then return { 0 } end"),
    ("and left > 0 and 2", "and 2"),
    ("if of[2] ~= holder then return { 0 } end", ""),
    (
        "if not ended then finish(ticket, rule, ARGV[4], ARGV[5], of[6]) end",
        "finish(ticket, rule, ARGV[4], ARGV[5], of[6])",
    ),
    ("  if ended then return { 0 } end\n  if ARGV[5]", "  if ARGV[5]"),
    ("call('HINCRBY', key, 'n', -1)", ""),
    ("if now - of[5] >= 0 then", "if now - of[5] > 60000 then"),
    ("call('HDEL', key, 'c')", ""),
    ("call('ZADD', line(rule), now + 1 + ARGV[4], ticket)", "call('ZADD', line(rule), now, ticket)"),
];

/// The script as it is written, with the spaces that it is sent without.
const SOURCE: &str = include_str!("../../../../engine/src/redis/queue.lua");

/// Histories that a mutant may live through before it counts as not found.
const HISTORIES: u64 = 200;

#[test]
fn every_mistake_in_the_script_is_found() {
    if !skip::has("mistakes in queue.lua", &["redis-server"]) {
        return;
    }
    let mut redis = Virtual::start(SOURCE);
    let mut missed = Vec::new();
    for (from, to) in MUTANTS {
        assert_eq!(SOURCE.matches(from).count(), 1, "`{from}` is to stand in queue.lua once");
        redis.load(&SOURCE.replace(from, to));
        let found = (1..=HISTORIES).find_map(|seed| {
            redis.forget();
            history::live_through(&mut redis, seed, &mut history::Tally::default()).err()
        });
        match found {
            Some(difference) => eprintln!("`{from}`: {difference}"),
            None => missed.push(from),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}
