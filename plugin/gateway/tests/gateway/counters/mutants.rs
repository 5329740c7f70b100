//! Mistakes made in the script on purpose. Each must be found by the histories, or the histories are worth nothing.
//! A line that is no longer in the script fails the test too: then the mistake must be made anew.

use super::Virtual;
use crate::skip;

/// What stands in the script, once, and what is put in its place.
const MUTANTS: &[(&str, &str)] = &[
    // Numbers between microseconds.
    ("local part = parts % c.rate\n", "local part = 0\n"),
    (
        "if part >= c.rate then return a + b + 1, part - c.rate end",
        "if part > c.rate then return a + b + 1, part - c.rate end",
    ),
    ("return a - b - 1, a_part + c.rate - b_part", "return a - b, 0"),
    ("if part > 0 then return whole + 1 end", ""),
    ("while n < most and fits(n + 1) do n = n + 1 end", ""),
    // Buckets.
    ("c.mark = max(c.mark, ceil(c.tat, c.part) + 1)", ""),
    ("c.tat, c.part, c.changed = bound, part, true", "c.tat, c.part = bound, part"),
    (
        "c.tat, c.part, c.mark = c.to, c.to_part, max(c.mark, c.release)",
        "c.tat, c.part, c.mark = c.to, c.to_part, c.release",
    ),
    ("local drained = max(0, max(now, c.mark) - at)", "local drained = max(0, now - at)"),
    ("back, back_part = minus(c, back, back_part, drained, 0)", ""),
    ("if cost > c.burst then return FOREVER end", "if cost > c.rate then return FOREVER end"),
    ("if spare < c.less then return FOREVER end", ""),
    ("spare - c.less, spare_part", "spare, spare_part"),
    ("if c.tat >= release then", "if c.tat > release then"),
    ("if due >= now then", "if due > now then"),
    ("function leaky.full(c) return c.window, 0 end", "function leaky.full(c) return intervals(c, c.burst) end"),
    ("function leaky.life() return 0 end", "function leaky.life() return 1 end"),
    // Windows.
    ("if c.horizon == 0 then return 0 end", ""),
    ("if c.number > current then return 0 end", ""),
    ("if c.seal < number then c.seal = 0 end", "c.seal = 0"),
    ("latest, max(c.seal, c.number), true", "latest, c.seal, true"),
    ("if c.count + cost <= c.rate then", "if c.count + cost < c.rate then"),
    ("if charged == c.number and charged > c.seal then", "if charged == c.number then"),
    ("if c.count == 0 then return remaining, opens end", ""),
    ("c.unit = math.ceil(c.rate / 255)", "c.unit = math.ceil(c.rate / 256)"),
    ("for age = 1, 16 - moves do", "for age = 1, 15 - moves do"),
    ("while moves < CLEARED and held_after", "while moves < CLEARED - 1 and held_after"),
    ("local units = min(255, floor(c.open / c.unit))", "local units = min(255, math.ceil(c.open / c.unit))"),
    ("c.closed[moves], c.open = units, c.open - units * c.unit", "c.closed[moves], c.open = units, 0"),
    ("if held == 0 then return remaining, opens end", ""),
    ("if c.seal ~= 0 then return end", ""),
    ("floor(units / c.unit))", "math.ceil(units / c.unit))"),
    ("c.number, c.seal, c.changed = latest, seal, true", "c.number, c.seal, c.changed = latest, 0, true"),
    ("elseif age >= 1 and age <= 16 then", "elseif age >= 1 and age <= 15 then"),
    // The request.
    ("c.latest = now + c.horizon + c.width", "c.latest = now + c.horizon"),
    ("c.reach = mode == 'w' and c.horizon or 0", "c.reach = c.horizon"),
    ("local sealed = min(c.own.sealed_until(c) - now, WINDOWS_KEPT * c.window + c.horizon)", "local sealed = 0"),
    ("local keep = max(0, c.own.like_new_at(c) - now, sealed)", "local keep = max(0, sealed)"),
    ("math.ceil(keep / 1000) + 1", "floor(keep / 2000)"),
    ("units = units + more", "units = more"),
    ("if more > 0 and life > 0 and c.own.plan(c, more) == 0 then", "if more > 0 and c.own.plan(c, more) == 0 then"),
    ("if c.mode ~= 's' and not admits(c) then granted = 0 end", "if not admits(c) then granted = 0 end"),
    ("if granted == 1 and op == 'acquire' then", "if op == 'acquire' then"),
    ("c.changed = c.changed or units > 0", "c.changed = units > 0"),
];

/// The script as it is written, with the spaces that it is sent without.
const SOURCE: &str = include_str!("../../../../engine/src/redis/acquire.lua");

/// Histories that a mutant may live through before it counts as not found.
const HISTORIES: u64 = 1_000;

#[test]
fn every_mistake_in_the_script_is_found() {
    if !skip::has("mistakes in acquire.lua", &["redis-server"]) {
        return;
    }
    let mut redis = Virtual::start();
    let mut missed = Vec::new();
    for (from, to) in MUTANTS {
        assert_eq!(SOURCE.matches(from).count(), 1, "`{from}` is to stand in acquire.lua once");
        redis.forget();
        redis.load(&SOURCE.replace(from, to));
        match (0..HISTORIES).find_map(|seed| redis.live_through(seed).err()) {
            Some(difference) => eprintln!("`{from}`: {}", difference.split(':').next().unwrap_or_default()),
            None => missed.push(from),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}
