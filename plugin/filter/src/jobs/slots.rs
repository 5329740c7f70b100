//! The slots of shared data that jobs live in: one key for the record, which everybody reads often, and one for the
//! body, which only a try reads.

use core::fmt;

use super::ABANDONED_AFTER;
use super::record::{Job, Progress};
use crate::host::{self, ANYHOW, IF_ABSENT, Status};
use tidegate_engine::Timestamp;
use tidegate_engine::admin::hex;

/// How many slots are looked at for a free one. Half of all are free or hold results, so that four in a million
/// requests look at as many in vain.
const PROBES: usize = 18;

/// All slots of a deployment.
#[derive(Debug)]
pub(super) struct Slots {
    prefix: [u8; 8],
    count: u32,
}

/// What a client holds: 128 random bits, and which slot to look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) bits: [u8; 16],
    pub(crate) slot: u32,
}

/// A job as it was read, to be written again if nobody wrote meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) job: Job,
    cas: u32,
}

impl Taken {
    /// Whether its request was stored whole: a VM that died before left a job that was never tried and never promised.
    pub(super) fn is_stored(&self) -> bool {
        self.job.attempts > 0
    }
}

impl Slots {
    /// Opens at least `wanted` slots, and as many as there ever were.
    pub(super) fn open(prefix: [u8; 8], wanted: u32) -> Self {
        let mut slots = Self { prefix, count: 0 };
        let key = slots.key(b'J', 0);
        // Another VM may open them now: the larger count stays.
        for _ in 0..64 {
            let (known, cas) = match host::shared(&key) {
                Ok((value, cas)) => (value.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)), cas),
                Err(_) => (0, IF_ABSENT),
            };
            slots.count = known.max(wanted);
            if slots.count == known || host::set_shared(&key, &slots.count.to_le_bytes(), cas).is_ok() {
                break;
            }
        }
        for slot in 0..slots.count {
            let _ = host::set_shared(&slots.key(b'j', slot), &[], IF_ABSENT);
        }
        slots
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Puts a job into a free slot, or in place of the oldest result found; returns when it is safely there.
    pub(super) fn take(&self, mut job: Job, now: Timestamp) -> Option<Ticket> {
        let mut random = [0; 16 + PROBES * 4];
        getrandom::fill(&mut random).ok()?;
        let (bits, probes) = random.split_first_chunk::<16>()?;
        job.ticket = *bits;
        let promised = core::mem::replace(&mut job.progress, Progress::Running(now + ABANDONED_AFTER));
        let body = core::mem::take(&mut job.call.body);
        let slot = self.claim(probes, &job)?;
        let ticket = Ticket { bits: *bits, slot };
        // The body first: whoever sees a waiting job finds it whole.
        if host::set_shared(&self.key(b'y', slot), &body, ANYHOW).is_err() {
            return None;
        }
        let taken = self.read(slot).filter(|taken| taken.job.ticket == ticket.bits)?;
        job.progress = promised;
        self.write(slot, &Taken { job, cas: taken.cas }).ok().map(|()| ticket)
    }

    /// Writes `job` into one of the slots that `probes` names.
    fn claim(&self, probes: &[u8], job: &Job) -> Option<u32> {
        let mut oldest: Option<(Timestamp, u32, u32)> = None;
        for probe in probes.as_chunks::<4>().0 {
            let slot = u32::from_le_bytes(*probe).checked_rem(self.count)?;
            let (value, cas) = match host::shared(&self.key(b'j', slot)) {
                Ok(found) => found,
                Err(Status::NOT_FOUND) => (Vec::new(), IF_ABSENT),
                Err(_) => return None,
            };
            match Job::read(&value).map(|job| job.progress) {
                None => {
                    if host::set_shared(&self.key(b'j', slot), &job.bytes(), cas).is_ok() {
                        return Some(slot);
                    }
                }
                Some(Progress::Ended(at, _)) if oldest.is_none_or(|(than, ..)| at < than) => {
                    oldest = Some((at, slot, cas));
                }
                Some(_) => {}
            }
        }
        let (_, slot, cas) = oldest?;
        host::set_shared(&self.key(b'j', slot), &job.bytes(), cas).ok().map(|()| slot)
    }

    /// The job in a slot, without its body.
    pub(super) fn read(&self, slot: u32) -> Option<Taken> {
        if slot >= self.count {
            return None;
        }
        let (value, cas) = host::shared(&self.key(b'j', slot)).ok()?;
        Job::read(&value).map(|job| Taken { job, cas })
    }

    /// The body of the request in a slot.
    pub(super) fn body(&self, slot: u32) -> Vec<u8> {
        host::shared(&self.key(b'y', slot)).map(|(body, _)| body).unwrap_or_default()
    }

    /// Writes a job back, if nobody wrote since it was read.
    pub(super) fn write(&self, slot: u32, taken: &Taken) -> Result<(), Status> {
        host::set_shared(&self.key(b'j', slot), &taken.job.bytes(), taken.cas)?;
        if matches!(taken.job.progress, Progress::Ended(..)) {
            // The request is not needed any more: the host never forgets a key, but an empty value takes no room.
            let _ = host::set_shared(&self.key(b'y', slot), &[], ANYHOW);
        }
        Ok(())
    }

    /// Empties a slot, if nobody wrote since it was read.
    pub(super) fn free(&self, slot: u32, taken: &Taken) {
        if host::set_shared(&self.key(b'j', slot), &[], taken.cas).is_ok() {
            let _ = host::set_shared(&self.key(b'y', slot), &[], ANYHOW);
        }
    }

    fn key(&self, kind: u8, slot: u32) -> Vec<u8> {
        let mut key = Vec::with_capacity(13);
        key.extend_from_slice(&self.prefix);
        key.push(kind);
        key.extend_from_slice(&slot.to_le_bytes());
        key
    }
}

impl Ticket {
    /// Reads what [`fmt::Display`] writes: 32 hexadecimal digits, a hyphen, the slot.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (digits, slot) = text.split_once('-')?;
        let known = digits.len() == 32 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let ticket = known.then(|| u128::from_str_radix(digits, 16).ok()).flatten()?;
        let slot = slot.parse().ok()?;
        let ticket = Self { bits: ticket.to_be_bytes(), slot };
        // One spelling only: `+7` and `07` are no slots.
        (ticket.to_string() == text).then_some(ticket)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", hex(&self.bits), self.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_has_one_spelling() {
        let ticket = Ticket { bits: [0xab; 16], slot: 7 };
        let text = "abababababababababababababababab-7";
        assert_eq!(ticket.to_string(), text);
        assert_eq!(Ticket::parse(text), Some(ticket));
        for wrong in [
            "",
            "-7",
            "abababababababababababababababab",
            "abababababababababababababababab-07",
            "abababababababababababababababab-+7",
            "ABABABABABABABABABABABABABABABAB-7",
            "abababababababababababababababa-7",
            "+bababababababababababababababab-7",
        ] {
            assert_eq!(Ticket::parse(wrong), None, "{wrong}");
        }
    }
}
