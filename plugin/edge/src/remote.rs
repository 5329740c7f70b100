//! Cells that live elsewhere: what a store is asked, and what a store does with it in one atomic step. Both are lines of
//! words, since every part is a name or a whole number. How a store is reached, and how long it may take, is JavaScript's.
//!
//! A question: the time in microseconds, then a line a cell: `key algorithm rate window_us burst horizon_us cost must
//! may_wait`. An answer: `granted`, `refused` or `contended`, then a line a cell: `wait_us charged remaining
//! reset_after_us`, and what a store must keep: `state keep_ms`. A wait that never ends is `-`; yes is 1, no is 0.

use core::fmt::Write as _;
use core::str::SplitAsciiWhitespace;

use tidegate_engine::acquire::{Acquire, CellReply, CellRequest, Outcome, Reply};
use tidegate_engine::algorithm::{Cell, Quota};
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::identity::{Kind, Subject};
use tidegate_engine::policy::Policy;
pub(crate) use tidegate_engine::redis::key;
use tidegate_engine::{Micros, Timestamp};
use wasm_bindgen::prelude::wasm_bindgen;

pub(crate) const NO_QUESTION: &str = "the store was asked something that is no question";

/// No number in a question or an answer may be larger: JavaScript and Lua must hold it exactly.
const LARGEST: u64 = (1 << 53) - 1;

/// The question to a store; `rules` are the indices of the cells' rules.
pub(crate) fn question(policy: &Policy, rules: &[usize], acquire: &Acquire) -> String {
    let mut out = acquire.now.micros().to_string();
    for (cell, rule) in acquire.cells.iter().zip(rules) {
        let (Some(subject), Some(rule)) = (acquire.subjects.get(cell.subject), policy.rules.get(*rule)) else {
            continue;
        };
        let Quota { rate, window, burst, horizon } = cell.quota;
        let key = key(&policy.namespace, subject, &rule.name, cell.rule_id);
        let (must, may_wait) = (u8::from(cell.must), u8::from(cell.may_wait));
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n{key} {} {rate} {} {burst} {} {} {must} {may_wait}",
            cell.algorithm.name(),
            window.0,
            horizon.0,
            cell.cost
        );
    }
    out
}

/// Reads an answer. Anything else is no answer.
pub(crate) fn reply(text: &str) -> Option<Reply> {
    let mut lines = text.lines();
    let outcome = match lines.next()? {
        "granted" => Outcome::Granted,
        "refused" => Outcome::Refused,
        "contended" => Outcome::Contended,
        _ => return None,
    };
    let cell = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let wait = match words.next()? {
            "-" => Micros::FOREVER,
            micros => Micros(number(micros)?),
        };
        let charged = yes(&mut words)?;
        Some(CellReply {
            wait,
            charged,
            remaining: number(words.next()?)?,
            reset_after: Micros(number(words.next()?)?),
        })
    };
    Some(Reply { cells: lines.map(cell).collect::<Option<Vec<CellReply>>>()?, outcome })
}

/// What a store does in one atomic step: decides over `stored`, 24 bytes a cell (zeros where it has none), and charges.
///
/// # Errors
/// A text that is no question, or states that are not 24 bytes a cell.
#[wasm_bindgen]
pub fn settle(question: &str, stored: &[u8]) -> Result<String, String> {
    let Asked { acquire, .. } = parse(question).ok_or(NO_QUESTION)?;
    let mut cells = states(stored, acquire.cells.len()).ok_or("the store's states are not 24 bytes a cell")?;
    let reply = acquire.settle(&mut cells);
    let mut out = word(reply.outcome).to_owned();
    for (answer, cell) in reply.cells.iter().zip(&cells) {
        tell(&mut out, answer);
        let _ = write!(out, " {} {}", hex(*cell), answer.reset_after.millis_ceil());
    }
    Ok(out)
}

/// The first line of an answer.
pub(crate) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Granted => "granted",
        Outcome::Refused => "refused",
        Outcome::Contended => "contended",
    }
}

/// An answer's line about one cell, without what only its store keeps.
pub(crate) fn tell(out: &mut String, cell: &CellReply) {
    let CellReply { wait, charged, remaining, reset_after } = *cell;
    let wait = if wait == Micros::FOREVER { "-".to_owned() } else { wait.0.to_string() };
    let _ = write!(out, "\n{wait} {} {remaining} {}", u8::from(charged), reset_after.0);
}

/// What a store does to give back what [`settle`] charged: `answer` is its answer, `now_us` the time of this call.
/// Returns a line a cell: its new state, or nothing where nothing is to be changed.
///
/// # Errors
/// As [`settle`].
#[wasm_bindgen]
pub fn refund(question: &str, answer: &str, stored: &[u8], now_us: f64) -> Result<String, String> {
    let Asked { acquire, .. } = parse(question).ok_or(NO_QUESTION)?;
    let answer = reply(answer).ok_or("the answer is none of this store's")?;
    let cells = states(stored, acquire.cells.len()).ok_or("the store's states are not 24 bytes a cell")?;
    let back = acquire.cells.iter().zip(&answer.cells).zip(cells).map(|((request, answer), cell)| {
        let cell = request.refund(cell, answer, acquire.now, crate::limiter::timestamp(now_us));
        cell.map_or_else(String::new, hex)
    });
    Ok(back.collect::<Vec<String>>().join("\n"))
}

/// A question as a store reads it: with stand-ins for the subjects, which it knows by their keys alone.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) acquire: Acquire,
    pub(crate) keys: Vec<String>,
}

/// Reads a question; `None` where it is none.
pub(crate) fn parse(question: &str) -> Option<Asked> {
    let mut lines = question.lines();
    let now = Timestamp::from_micros(number(lines.next()?)?);
    let catalogue = Catalogue::builtin();
    let (mut keys, mut cells, mut tags) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let mut words = line.split_ascii_whitespace();
        let key = words.next()?;
        // The part in braces is the identity: who has the same lives in the same place.
        let tag = key.split_once('}').map_or(key, |(tag, _)| tag);
        let subject = tags.iter().position(|known| *known == tag).unwrap_or(tags.len());
        if subject == tags.len() {
            tags.push(tag);
        }
        let algorithm = catalogue.algorithm(words.next()?)?;
        let quota = quota(&mut words)?;
        let cost = number(words.next()?)?;
        let (must, may_wait) = (yes(&mut words)?, yes(&mut words)?);
        keys.push(key.to_owned());
        cells.push(CellRequest { subject, rule_id: 0, group: 0, algorithm, quota, cost, must, may_wait });
    }
    let subjects = tags.iter().map(|_| Subject::only(Kind::Global)).collect();
    Some(Asked { acquire: Acquire { now, subjects, cells }, keys })
}

/// Within the bounds of the policy format, so that no store can be asked what no policy can say.
fn quota(words: &mut SplitAsciiWhitespace<'_>) -> Option<Quota> {
    const HIGHEST: u64 = 10_000_000;
    const LONGEST: u64 = 366 * 86_400 * 1_000_000;
    let mut next = || number(words.next()?);
    let (rate, window, burst, horizon) = (next()?, next()?, next()?, next()?);
    let fits = rate <= HIGHEST && burst <= 2 * HIGHEST && (1_000_000..=LONGEST).contains(&window) && horizon <= LONGEST;
    Some(Quota {
        rate: rate.try_into().ok().filter(|_| fits)?,
        window: Micros(window),
        burst: burst.try_into().ok()?,
        horizon: Micros(horizon),
    })
}

fn number(word: &str) -> Option<u64> {
    word.parse().ok().filter(|number| *number <= LARGEST)
}

fn yes(words: &mut SplitAsciiWhitespace<'_>) -> Option<bool> {
    match words.next()? {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

/// The cells in `stored`; `None` where they are not `count`.
pub(crate) fn states(stored: &[u8], count: usize) -> Option<Vec<Cell>> {
    let (words, rest) = stored.as_chunks::<8>();
    if !rest.is_empty() || words.len() != count.checked_mul(3)? {
        return None;
    }
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mut next = || words.next().unwrap_or_default();
    Some((0..count).map(|_| Cell([next(), next(), next()])).collect())
}

/// The 24 bytes of a cell in hexadecimal digits.
fn hex(cell: Cell) -> String {
    let [first, second, third] = cell.0.map(u64::swap_bytes);
    format!("{first:016x}{second:016x}{third:016x}")
}
