//! A job as bytes: what is kept of a queued request, how far it is, and what came of it. Any bytes read back as a job or
//! as nothing; a damaged record is nothing. Moments are the steady clock's in a slot, which ends with the proxy, and the wall
//! clock's in a fleet's store.

use tidegate_engine::Timestamp;

/// The first byte of every record: another layout gets another one, and old records are then nothing.
const LAYOUT: u8 = 1;

/// A queued request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// 128 random bits that only the client knows.
    pub(crate) ticket: [u8; 16],
    /// The rule that queued it.
    pub(crate) rule: String,
    pub(crate) progress: Progress,
    /// How often it was tried.
    pub(crate) attempts: u32,
    pub(crate) terms: Terms,
    pub(crate) call: Call,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is tried next at this moment.
    Waiting(Timestamp),
    /// Somebody tries it; after this moment that somebody is taken for dead.
    Running(Timestamp),
    /// It ended at this moment.
    Ended(Timestamp, Outcome),
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The upstream answered.
    Done(Answer),
    /// Every try failed; the last one's answer, or status 0 where there was none.
    Failed(Answer),
}

/// What the upstream answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// Cut to the rule's `max_result_bytes`.
    pub(crate) body: Vec<u8>,
}

/// How a job is carried out: the rule's settings when it was taken, so that it outlives the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) cluster: String,
    pub(crate) max_attempts: u32,
    pub(crate) backoff_ms: u64,
    pub(crate) timeout_ms: u32,
    pub(crate) result_ttl_ms: u64,
    pub(crate) max_result_bytes: u32,
    /// After this moment a job that found no way to its cluster is given up.
    pub(crate) give_up_at: Timestamp,
}

/// The request itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Pseudo-headers first.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Job {
    /// The record's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut to = vec![LAYOUT];
        to.extend_from_slice(&self.ticket);
        put_bytes(&mut to, self.rule.as_bytes());
        put_number(&mut to, u64::from(self.attempts));
        let (kind, at, answer) = match &self.progress {
            Progress::Waiting(at) => (0, at, None),
            Progress::Running(at) => (1, at, None),
            Progress::Ended(at, Outcome::Done(answer)) => (2, at, Some(answer)),
            Progress::Ended(at, Outcome::Failed(answer)) => (3, at, Some(answer)),
        };
        to.push(kind);
        put_number(&mut to, at.micros());
        if let Some(answer) = answer {
            to.extend(answer.bytes());
        }
        let terms = &self.terms;
        put_bytes(&mut to, terms.cluster.as_bytes());
        for number in [
            u64::from(terms.max_attempts),
            terms.backoff_ms,
            u64::from(terms.timeout_ms),
            terms.result_ttl_ms,
            u64::from(terms.max_result_bytes),
            terms.give_up_at.micros(),
            self.call.headers.len() as u64,
        ] {
            put_number(&mut to, number);
        }
        for (name, value) in &self.call.headers {
            put_bytes(&mut to, name.as_bytes());
            put_bytes(&mut to, value);
        }
        put_bytes(&mut to, &self.call.body);
        to
    }

    /// Reads a record; `None` where there is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes.strip_prefix(&[LAYOUT])?);
        let ticket = from.array()?;
        let rule = from.text()?;
        let attempts = from.small()?;
        let [kind] = from.array()?;
        let at = from.moment()?;
        let progress = match kind {
            0 => Progress::Waiting(at),
            1 => Progress::Running(at),
            2 => Progress::Ended(at, Outcome::Done(from.answer()?)),
            3 => Progress::Ended(at, Outcome::Failed(from.answer()?)),
            _ => return None,
        };
        let terms = Terms {
            cluster: from.text()?,
            max_attempts: from.small()?,
            backoff_ms: from.number()?,
            timeout_ms: from.small()?,
            result_ttl_ms: from.number()?,
            max_result_bytes: from.small()?,
            give_up_at: from.moment()?,
        };
        let count = from.number()?;
        let mut headers = Vec::new();
        for _ in 0..count {
            headers.push((from.text()?, from.bytes()?.to_vec()));
        }
        let call = Call { headers, body: from.bytes()?.to_vec() };
        Some(Self { ticket, rule, progress, attempts, terms, call })
    }
}

impl Answer {
    /// The answer's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut to = Vec::new();
        put_number(&mut to, u64::from(self.status));
        put_bytes(&mut to, self.content_type.as_bytes());
        put_bytes(&mut to, &self.body);
        to
    }

    /// Reads what [`Answer::bytes`] wrote; no answer where that is damaged.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Reader(bytes).answer().unwrap_or_default()
    }
}

fn put_number(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (found, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*found)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number().and_then(|number| T::try_from(number).ok())
    }

    fn moment(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp::from_micros)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let size = self.small()?;
        let (found, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(found)
    }

    fn text(&mut self) -> Option<String> {
        self.bytes().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
    }

    fn answer(&mut self) -> Option<Answer> {
        Some(Answer { status: self.small()?, content_type: self.text()?, body: self.bytes()?.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(progress: Progress) -> Job {
        Job {
            ticket: [9; 16],
            rule: "jobs".to_owned(),
            progress,
            attempts: 2,
            terms: Terms {
                cluster: "workers".to_owned(),
                max_attempts: 5,
                backoff_ms: 1_000,
                timeout_ms: 15_000,
                result_ttl_ms: 600_000,
                max_result_bytes: 65_536,
                give_up_at: Timestamp::from_micros(9),
            },
            call: Call {
                headers: vec![(":method".to_owned(), b"POST".to_vec()), ("x".to_owned(), vec![0xff, 0])],
                body: vec![1, 2, 3],
            },
        }
    }

    #[test]
    fn every_job_reads_back() {
        let at = Timestamp::from_micros(7);
        let answer = Answer { status: 200, content_type: "text/plain".to_owned(), body: b"ok".to_vec() };
        for progress in [
            Progress::Waiting(at),
            Progress::Running(at),
            Progress::Ended(at, Outcome::Done(answer.clone())),
            Progress::Ended(at, Outcome::Failed(answer)),
        ] {
            let job = job(progress);
            assert_eq!(Job::read(&job.bytes()), Some(job));
        }
    }

    #[test]
    fn a_damaged_record_is_nothing() {
        let whole = job(Progress::Waiting(Timestamp::from_micros(7))).bytes();
        for cut in 0..whole.len() {
            assert_eq!(Job::read(&whole[..cut]), None, "cut at {cut}");
        }
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] = 0xff;
            let _ = Job::read(&damaged);
        }
    }
}
