//! The counters in Redis: one script that charges the cells of a request in one atomic step, what is sent to run it over
//! HTTP, and what its answers mean. Nothing here does I/O or waits; when to ask, and what to do when nobody answers, is
//! the caller's business. Queued requests have a script of their own: [`queue`].
//!
//! A request: [`keys`] names its cells, a [`Conversation`] says which [`Call`]s to make and takes their answers,
//! [`Call::body`] and [`headers`] are what to send, [`read`] what came back:
//!
//! ```text
//! let keys = redis::keys(policy, &rules, acquire);
//! let mut talk = Conversation::new(acquire, is_cluster);
//! while let Some(call) = talk.next_call(acquire, &keys, &leases) {
//!     send headers(&store) and call.body(store.protocol, Form::Hash)
//!     match redis::read(status, body).and_then(|entries| redis::numbers(&entries)) {
//!         Ok(numbers) => talk.take(&numbers, acquire, &leases)?,
//!         Err(Failure::NoScript) => send call.body(store.protocol, Form::Text) once,
//!         Err(Failure::CrossSlot) => is_cluster = true from now on, and start a new Conversation,
//!         Err(failure) => give back talk.charges(..), then pending.resume(Err(StoreError)),
//!     }
//! }
//! give back talk.returned(..); pending.resume(Ok(talk.finish().reply()))
//! ```
//!
//! **What is atomic.** All cells of one call: read, decided and written while Redis runs nothing else. All cells of one
//! identity share a hash tag, so that a Cluster keeps them together. A request whose identities live in different slots
//! is refused by a Cluster with CROSSSLOT before anything ran; from then on each identity is asked for in a call of its
//! own, the scarcest first: the one whose charge takes the longest to drain, so that a refusal mostly comes before
//! anything else is charged. After a refusal what earlier calls charged is given back, and the identities that are left
//! are probed for their verdicts without charging.
//!
//! **What bound holds then.** Every charge is made before its request is admitted, and a refund never gives back more than
//! is safe; so no rule ever admits more than its quota, whatever is lost on the way. What is not atomic errs to the
//! other side: until its refund comes, a request that another identity refuses holds its units, and what a bucket
//! drained meanwhile is not given back; a lost refund ages out.
//!
//! **Time** is Redis's alone. A charge's moment, [`Charge::at`], is opaque here: it is kept to be given back.

mod answer;
mod body;
mod call;
mod conversation;
mod failure;
mod lease;
pub mod queue;
mod reply;
mod script;
mod state;

pub use answer::{numbers, read};
pub use body::{Form, headers};
pub use call::{Call, Charge};
pub use conversation::{Conversation, Outcomes};
pub use failure::Failure;
pub use lease::Lease;
pub use reply::CellOutcome;
pub use script::{ACQUIRE, QUEUE, SCRIPTS, Script};
pub use state::{Has, StateAnswer, read_state, state_key};

use crate::acquire::Acquire;
use crate::identity::Subject;
use crate::policy::Policy;

/// The name of each cell of `acquire`, in order; `rules` are the indices of the cells' rules in the policy.
pub fn keys(policy: &Policy, rules: &[usize], acquire: &Acquire) -> Vec<String> {
    let name = |index: &usize| policy.rules.get(*index).map_or("", |rule| rule.name.as_str());
    let names = rules.iter().map(name).chain(core::iter::repeat(""));
    let cells = acquire.cells.iter().zip(names);
    cells
        .map(|(cell, name)| {
            let subject = acquire.subjects.get(cell.subject);
            subject.map_or_else(String::new, |subject| key(&policy.namespace, subject, name, cell.rule_id))
        })
        .collect()
}

/// `tg1:{<namespace>:<kind>:<digest>}:<rule>:<id>`: nothing that a client sends stands in it but as a hash. The id
/// covers scope, algorithm, rate, window and burst: changing one starts afresh.
pub fn key(namespace: &str, subject: &Subject, rule: &str, id: u64) -> String {
    let mut out = String::from("tg1:{");
    out.push_str(namespace);
    out.push(':');
    out.push(subject.kind.letter());
    out.push(':');
    push_hex(&mut out, &subject.digest());
    out.push_str("}:");
    out.push_str(rule);
    out.push(':');
    push_hex(&mut out, &id.to_be_bytes());
    out
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Kind;

    #[test]
    fn a_key_has_one_hash_tag_whatever_the_identity() {
        for identity in ["}", "{", "}x{", "{}}", "a}b{c", "", "\r\n*1\r\n$8\r\nFLUSHALL", "x/../y"] {
            let subject = Subject { kind: Kind::VerifiedUser, value: identity.as_bytes().to_vec() };
            let key = key("default", &subject, "api", 0xf);
            assert_eq!(key.len(), "tg1:{default:v:}:api:".len() + 32 + 16, "{key}");
            assert!(key.starts_with("tg1:{default:v:") && key.ends_with("}:api:000000000000000f"), "{key}");
            assert_eq!((key.matches('{').count(), key.matches('}').count()), (1, 1), "{key}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_subject() {
        let subject = Subject { kind: Kind::Address, value: b"192.0.2.1/32".to_vec() };
        let digest = u128::from_be_bytes(subject.digest());
        assert!(key("n", &subject, "r", 1).contains(&format!("{{n:i:{digest:032x}}}")));
    }
}
