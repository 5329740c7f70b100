//! Queued requests in Redis: the calls for each step of a job, and what their answers mean. What a request holds is the
//! caller's: here it is bytes. When to call, and what to do without an answer, is the caller's business too.

use base64ct::{Base64UrlUnpadded, Encoding};

use super::call::Call;
use super::push_hex;
use super::script::QUEUE;
use crate::decision::Reservation;
use crate::policy::Node;
use crate::strategy;
use crate::time::Micros;

/// How long a job that nobody carries out is kept beyond its longest wait and its result's life: a week.
const SLACK: Micros = Micros::from_secs(604_800);
/// How many jobs one claim takes, or finds to have failed, and how many bytes of them beyond the first.
const MOST_JOBS: u64 = 32;
const MOST_BYTES: &str = "262144";

/// The calls of one namespace's queue.
#[derive(Clone, Debug)]
pub struct Jobs {
    /// What every key begins with.
    base: String,
}

/// What spaces the moments that jobs reserve: those of one line keep their distances also when they come late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The counter's rule and identity, in hexadecimal digits.
    pub name: String,
    /// The counter's window: its limit asks for no longer pause between two jobs.
    pub gap: Micros,
}

/// What a claim brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// How long until there is more to claim, where somebody must come for it.
    pub next: Option<Micros>,
    /// The rules that have jobs: the name, how many have not ended, and how many this claim found to have failed, since
    /// their last try never came back.
    pub rules: Vec<(String, u64, u64)>,
    /// The jobs claimed: the ticket, which try this is, and the request.
    pub jobs: Vec<(String, u32, Vec<u8>)>,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How far.
    pub state: State,
    /// The rule that queued it.
    pub rule: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How long until it is tried, or taken for abandoned.
    pub wait: Micros,
    /// What came of it, as it was given to [`Jobs::end`].
    pub answer: Vec<u8>,
}

/// The states of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is tried when its moment comes.
    Waiting,
    /// Somebody tries it.
    Running,
    /// The upstream answered.
    Done,
    /// Every try failed.
    Failed,
}

impl Line {
    /// The line of a request that has reserved these cells: that of the one it waits for longest.
    pub fn of(reservation: &Reservation) -> Self {
        let acquire = &reservation.acquire;
        let charged = acquire.cells.iter().zip(&reservation.cells).filter(|(_, reply)| reply.charged);
        let Some((cell, _)) = charged.max_by_key(|(_, reply)| reply.wait) else { return Self::default() };
        let mut name = String::new();
        push_hex(&mut name, &cell.rule_id.to_be_bytes());
        if let Some(subject) = acquire.subjects.get(cell.subject) {
            push_hex(&mut name, &subject.digest());
        }
        Self { name, gap: cell.quota.window }
    }
}

impl Jobs {
    /// The queue of a namespace.
    pub fn of(namespace: &str) -> Self {
        Self { base: ["tg1:{", namespace, ":q}:"].concat() }
    }

    /// Stores a job that is due after a delay, once for each ticket: a call that is repeated stores no second one. `claim` is
    /// how long a claim holds.
    pub fn put(
        &self,
        ticket: &str,
        (rule, queue): (&str, &strategy::Queue),
        (line, delay): (&Line, Micros),
        claim: Micros,
        request: &[u8],
    ) -> Call {
        let kept = [delay, queue.max_wait, queue.result_ttl, SLACK]
            .into_iter()
            .fold(0, |sum: u64, one| sum.saturating_add(one.millis_ceil()));
        let numbers = [
            u64::from(queue.max_queued),
            delay.millis_ceil(),
            claim.millis_ceil(),
            u64::from(queue.max_attempts),
            queue.max_wait.millis_ceil(),
            kept,
            queue.result_ttl.millis_ceil(),
        ];
        let mut call = self.step(&["put", ticket, rule]);
        call.arguments.extend(numbers.map(|number| number.to_string()));
        call.arguments.extend([line.name.clone(), line.gap.millis_ceil().to_string()]);
        call.arguments.push(Base64UrlUnpadded::encode_string(request));
        call
    }

    /// Claims jobs that are due. The same `holder` again, within a minute, brings what it has claimed already: for a call
    /// whose answer was lost.
    pub fn claim(&self, holder: &str) -> Call {
        self.step(&["claim", holder, &MOST_JOBS.to_string(), MOST_BYTES])
    }

    /// Ends a job that `holder` has claimed; what came of it is kept.
    pub fn end(&self, ticket: &str, holder: &str, is_done: bool, answer: &[u8]) -> Call {
        let state = if is_done { "done" } else { "failed" };
        self.step(&["end", ticket, holder, state, &Base64UrlUnpadded::encode_string(answer)])
    }

    /// Has a job that `holder` has claimed tried again. A try that was not sent counts as none; once the job may wait no
    /// longer, it fails instead.
    pub fn again(&self, ticket: &str, holder: &str, delay: Micros, was_sent: bool) -> Call {
        let unsent = if was_sent { "0" } else { "1" };
        self.step(&["again", ticket, holder, &delay.millis_ceil().to_string(), unsent])
    }

    /// Takes a job back that was never tried: whoever sent it was not promised anything.
    pub fn drop(&self, ticket: &str) -> Call {
        self.step(&["drop", ticket])
    }

    /// Asks how far a job is.
    pub fn look(&self, ticket: &str) -> Call {
        self.step(&["look", ticket])
    }

    fn step(&self, words: &[&str]) -> Call {
        let arguments = words.iter().map(|word| (*word).to_owned()).collect();
        Call { script: &QUEUE, keys: vec![self.base.clone()], arguments }
    }
}

/// What became of a put: whether the job is stored, and how many of its rule are; `None` for no answer of the script.
pub fn stored(entries: &[Node]) -> Option<(bool, u64)> {
    let [is_stored, count] = entries else { return None };
    Some((is_stored.integer().filter(|it| matches!(it, 0 | 1))? == 1, count.whole()?))
}

/// What an end, again or drop found: 0 for a job that was not the caller's (any more), 1 where it was done, 2 where the
/// job failed instead.
pub fn settled(entries: &[Node]) -> Option<u64> {
    let [found] = entries else { return None };
    found.whole().filter(|found| *found <= 2)
}

/// What a claim brought; `None` for no answer of the script, such as more than it was asked for.
pub fn claimed(entries: &[Node]) -> Option<Claimed> {
    let [next, count, rest @ ..] = entries else { return None };
    let length = usize::try_from(count.whole()?).ok()?.checked_mul(3)?;
    let (rules, jobs) = rest.split_at_checked(length)?;
    let (rules, _) = rules.as_chunks::<3>();
    let (jobs, []) = jobs.as_chunks::<3>() else { return None };
    if jobs.len() as u64 > MOST_JOBS {
        return None;
    }
    let rule = |[name, count, failed]: &[Node; 3]| {
        let failed = failed.whole().filter(|failed| *failed <= MOST_JOBS)?;
        Some((name.text()?.to_owned(), count.whole()?, failed))
    };
    let job = |[ticket, attempts, request]: &[Node; 3]| {
        Some((ticket.text()?.to_owned(), u32::try_from(attempts.whole()?).ok()?, bytes(request)?))
    };
    Some(Claimed {
        next: next.whole()?.checked_sub(1).map(Micros::from_millis),
        rules: rules.iter().map(rule).collect::<Option<_>>()?,
        jobs: jobs.iter().map(job).collect::<Option<_>>()?,
    })
}

/// What a look found: `Some(None)` where there is no such job.
pub fn looked(entries: &[Node]) -> Option<Option<Seen>> {
    let [state, rule, attempts, wait, answer] = entries else {
        return (settled(entries)? == 0).then_some(None);
    };
    Some(Some(Seen {
        state: match state.whole()? {
            1 => State::Waiting,
            2 => State::Running,
            3 => State::Done,
            4 => State::Failed,
            _ => return None,
        },
        rule: rule.text()?.to_owned(),
        attempts: u32::try_from(attempts.whole()?).ok()?,
        wait: Micros::from_millis(wait.whole()?),
        answer: bytes(answer)?,
    }))
}

/// Bytes that came as text. What is none of ours reads as nothing at all, so that one damaged job spoils no claim.
fn bytes(node: &Node) -> Option<Vec<u8>> {
    Some(Base64UrlUnpadded::decode_vec(node.text()?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::Timestamp;
    use crate::acquire::{Acquire, CellReply, CellRequest};
    use crate::algorithm::{Quota, TOKEN_BUCKET};
    use crate::identity::Subject;
    use crate::policy::Protocol;
    use crate::redis::{Form, read};

    fn entries(text: &str) -> Vec<Node> {
        read(200, format!("{{\"result\":{text}}}").as_bytes()).unwrap()
    }

    fn settings() -> strategy::Queue {
        strategy::Queue {
            cluster: "c".to_owned(),
            authority: "a".to_owned(),
            max_queued: 7,
            max_body_bytes: 1,
            headers: Vec::new(),
            max_attempts: 3,
            backoff: Micros::from_millis(1),
            timeout: Micros::from_secs(5),
            max_wait: Micros::from_secs(60),
            result_ttl: Micros::from_secs(30),
            max_result_bytes: 1,
            full_status: 429,
            allow_unverified: false,
        }
    }

    #[test]
    fn a_put_carries_the_terms_and_its_bytes_in_letters() {
        let jobs = Jobs::of("n");
        let every_byte: Vec<u8> = (0..=255).collect();
        let line = Line { name: "l".to_owned(), gap: Micros(6_001) };
        let call = jobs.put("t", ("r", &settings()), (&line, Micros(1_001)), Micros::from_secs(10), &every_byte);
        assert_eq!(call.keys, ["tg1:{n:q}:"]);
        let words: Vec<&str> = call.arguments.iter().map(String::as_str).collect();
        assert_eq!(words[..10], ["put", "t", "r", "7", "2", "10000", "3", "60000", "604890002", "30000"]);
        assert_eq!(words[10..12], ["l", "7"]);
        // Neither protocol must escape any of it.
        assert!(words[12].bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        for protocol in [Protocol::Upstash, Protocol::Webdis] {
            assert!(call.body(protocol, Form::Hash).contains(words[12]));
        }
        let told = entries(&format!("[21,1,\"r\",2,1,\"t\",3,\"{}\"]", words[12]));
        let jobs = vec![("t".to_owned(), 3, every_byte)];
        let next = Some(Micros::from_millis(20));
        assert_eq!(claimed(&told), Some(Claimed { next, rules: vec![("r".to_owned(), 2, 1)], jobs }));
    }

    #[test]
    fn a_jobs_line_is_that_of_the_counter_it_waits_for_longest() {
        let cell = |rule_id, subject, seconds| CellRequest {
            subject,
            rule_id,
            group: 0,
            algorithm: &TOKEN_BUCKET,
            quota: Quota {
                rate: NonZeroU64::MIN,
                window: Micros::from_secs(seconds),
                burst: NonZeroU64::MIN,
                horizon: Micros::FOREVER,
            },
            cost: 1,
            must: true,
            may_wait: true,
        };
        let (user, all) = (Subject::unverified([0xab; 16]), Subject::unverified([1; 16]));
        let cells = vec![cell(1, 1, 2), cell(0x2f, 0, 60)];
        let reply = |wait, charged| CellReply { wait: Micros(wait), charged, ..CellReply::default() };
        let line = |replies: [CellReply; 2]| {
            let acquire =
                Acquire { now: Timestamp::MAX, subjects: vec![user.clone(), all.clone()], cells: cells.clone() };
            let Line { name, gap } = Line::of(&Reservation { acquire, cells: replies.to_vec() });
            (name, gap.millis_ceil())
        };
        let of_user = ("000000000000002f".to_owned() + &"ab".repeat(16), 60_000);
        assert_eq!(line([reply(5, true), reply(6, true)]), of_user);
        let of_all = ("0000000000000001".to_owned() + &"01".repeat(16), 2_000);
        assert_eq!(line([reply(6, true), reply(5, true)]), of_all);
        assert_eq!(line([reply(5, true), reply(6, false)]), of_all);
        assert_eq!(line([reply(5, false), reply(6, false)]), (String::new(), 0));
    }

    #[test]
    fn whatever_else_is_told_is_nothing() {
        assert_eq!(stored(&entries("[0,9]")), Some((false, 9)));
        assert_eq!(claimed(&entries("[0,0]")), Some(Claimed::default()));
        assert_eq!(looked(&entries("[0]")), Some(None));
        assert_eq!(settled(&entries("[2]")), Some(2));
        for text in [
            "[3]",
            "[-1]",
            "[true]",
            "[null]",
            "[[0]]",
            "[\"1\"]",
            "[1.5]",
            "[1,-1]",
            "[0,1,2]",
            "[-1,0,1]",
            "[0,1,\"r\",1]",
            "[0,1,\"r\",1,33]",
            "[0,0,\"t\",1]",
            "[0,0,1,1,\"x\"]",
            "[0,0,\"t\",4294967296,\"x\"]",
            "[0,-1]",
            "[9,\"r\",1,1,\"\"]",
            "[1,2,1,1,\"\"]",
            "[1,\"r\",-1,1,\"\"]",
            "[1,\"r\",1,-1,\"\"]",
            "[1,\"r\",1,1,1]",
        ] {
            let all = entries(text);
            assert_eq!((stored(&all), claimed(&all), looked(&all), settled(&all)), (None, None, None, None), "{text}");
        }
        let jobs = |count| claimed(&entries(&format!("[0,0{}]", ",\"t\",1,\"\"".repeat(count))));
        assert_eq!((jobs(32).unwrap().jobs.len(), jobs(33)), (32, None), "no more than it was asked for");
    }

    #[test]
    fn one_damaged_job_spoils_no_claim() {
        let told = claimed(&entries(r#"[0,0,"a",1,"%%%","b",1,"AQ"]"#)).unwrap();
        assert_eq!(told.jobs, [("a".to_owned(), 1, Vec::new()), ("b".to_owned(), 1, vec![1])]);
    }
}
