//! Counters in Redis, where the filter keeps them too: the same script, the same keys, the same answers, all of them the
//! engine's. How a call travels, how long it may take and what becomes of a failure is JavaScript's.

use tidegate_engine::redis::{self, Call, Charge, Conversation};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::remote::{self, Asked, NO_QUESTION, tell, word};

/// What one question takes: the calls, one after the other, and what their answers come to.
#[wasm_bindgen]
#[derive(Debug)]
pub struct RedisTalk {
    asked: Asked,
    talk: Conversation,
    is_cluster: bool,
}

#[wasm_bindgen]
impl RedisTalk {
    /// Starts one. `is_cluster` once a store has answered `CROSSSLOT`; with `only_looks` nothing is charged.
    ///
    /// # Errors
    /// A text that is no question.
    #[wasm_bindgen(constructor)]
    pub fn new(question: &str, is_cluster: bool, only_looks: bool) -> Result<Self, String> {
        let mut asked = remote::parse(question).ok_or(NO_QUESTION)?;
        if only_looks {
            // What costs nothing charges nothing, and is told what is left.
            asked.acquire.cells.iter_mut().for_each(|cell| cell.cost = 0);
        }
        let talk = Conversation::new(&asked.acquire, is_cluster);
        Ok(Self { asked, talk, is_cluster })
    }

    /// The next call: how many keys it has, the keys, the arguments, each ended by a NUL; nothing once all are answered.
    pub fn next_call(&self) -> String {
        let Asked { acquire, keys } = &self.asked;
        self.talk.next_call(acquire, keys, &[]).map_or_else(String::new, |call| written(&call))
    }

    /// Takes the answer to that call: an HTTP status and a body, as Upstash has them. Returns nothing, or what failed.
    pub fn answered(&mut self, status: u32, body: &str) -> String {
        let taken = redis::read(status, body.as_bytes()).and_then(|entries| redis::numbers(&entries));
        let taken = taken.and_then(|numbers| self.talk.take(&numbers, &self.asked.acquire, &[]));
        taken.map_or_else(|failure| failure.to_string(), |()| String::new())
    }

    /// The calls that give back what must not stay charged, a line each: after a refusal, or a failure half-way.
    pub fn give_back(&self) -> String {
        let Asked { acquire, keys } = &self.asked;
        lines(&Call::refunds(&self.talk.returned(acquire, keys), self.is_cluster))
    }

    /// The answer to the question, once there is no next call. A cell's line ends with the moment that was charged for.
    pub fn answer(&mut self) -> String {
        let over = Conversation::new(&self.asked.acquire, self.is_cluster);
        let outcomes = core::mem::replace(&mut self.talk, over).finish();
        let mut out = word(outcomes.outcome).to_owned();
        for cell in &outcomes.cells {
            tell(&mut out, &cell.reply);
            out.push(' ');
            out.push_str(&cell.at.to_string());
        }
        out
    }
}

/// The calls that give back what an answer says was charged, a line each.
///
/// # Errors
/// Texts that are no question and no answer to it.
#[wasm_bindgen]
pub fn redis_refunds(question: &str, answer: &str, is_cluster: bool) -> Result<String, String> {
    let Asked { acquire, keys } = remote::parse(question).ok_or(NO_QUESTION)?;
    let reply = remote::reply(answer).ok_or("the answer is none of this store's")?;
    let moments = answer.lines().skip(1).map(|line| line.split_ascii_whitespace().nth(4)?.parse().ok());
    let cells = acquire.cells.iter().zip(&keys).zip(reply.cells.iter().zip(moments));
    let charges = cells.filter_map(|((request, key), (cell, at))| {
        Some(Charge { key, request, units: if cell.charged { request.cost } else { 0 }, at: at? })
    });
    let charges: Vec<Charge<'_>> = charges.collect();
    Ok(lines(&Call::refunds(&charges, is_cluster)))
}

/// The calls that forget a question's cells, a line each.
///
/// # Errors
/// A text that is no question.
#[wasm_bindgen]
pub fn redis_clears(question: &str, is_cluster: bool) -> Result<String, String> {
    let Asked { acquire, keys } = remote::parse(question).ok_or(NO_QUESTION)?;
    Ok(lines(&Call::clears(&acquire, &keys, is_cluster)))
}

/// The script that every call runs; or with `by_name` what EVALSHA calls it.
#[wasm_bindgen]
pub fn redis_script(by_name: bool) -> String {
    if by_name { redis::ACQUIRE.sha1 } else { redis::ACQUIRE.text }.to_owned()
}

fn written(call: &Call) -> String {
    let count = call.keys.len().to_string();
    let words = [count.as_str()].into_iter().chain(call.keys.iter().chain(&call.arguments).map(String::as_str));
    words.collect::<Vec<&str>>().join("\0")
}

fn lines(calls: &[Call]) -> String {
    calls.iter().map(written).collect::<Vec<String>>().join("\n")
}
