//! The counters in the proxy's shared data, which all workers see: a fixed number of keys made when the plugin is
//! configured, because the host never forgets a key. Buckets hold what clients choose; cells that no client chooses
//! have slots of their own, so that a flood of keys cannot reset them.
//!
//! An acquire over several slots: read and check all, write each by compare-and-swap, admit last. Where a slot changed
//! meanwhile it is read and checked again; where it no longer conforms, what was already charged is given back. A VM
//! that dies half-way leaves charges that age out: requests may be refused, never admitted too many.

mod slot;

use sha2::{Digest, Sha256};
use tidegate_engine::acquire::{Acquire, CellReply, Outcome, Reply, StoreError};
use tidegate_engine::algorithm::Cell;
use tidegate_engine::identity::{Kind, Subject};
use tidegate_engine::table::{Bucket, Geometry};
use tidegate_engine::{Engine, Reservation};

use crate::counters::Counters;
use crate::host::{self, IF_ABSENT, Status};
use slot::{Content, Slot, Unwritten};

/// How often one request writes again after somebody else was faster. Envoy's workers need a handful under full load;
/// past this the request is refused with reason `contended`, and nothing is charged.
const TRIES: u32 = 64;

/// One deployment's table.
#[derive(Debug)]
pub(crate) struct SharedTable {
    /// Starts every key: 64 bits of SHA-256 over what tells this deployment from others in the same shared data.
    prefix: [u8; 8],
    geometry: Geometry,
    seed: [u8; 16],
}

impl SharedTable {
    /// Opens the table of the deployment whose keys start with `prefix`, and makes it where it does not exist yet.
    ///
    /// # Errors
    /// Says what the host lacks: randomness or shared data.
    pub(crate) fn open(prefix: [u8; 8], engine: &Engine, max_keys: u32, counters: &Counters) -> Result<Self, String> {
        let seed = seed(prefix)?;
        let table = Self { prefix, geometry: Geometry::new(max_keys), seed };
        table.make(engine, counters)?;
        Ok(table)
    }

    /// Makes all keys ahead, so that no request grows the host's map: one VM is elected to make the buckets.
    fn make(&self, engine: &Engine, counters: &Counters) -> Result<(), String> {
        let refused = |status| format!("the host's shared data answers {status:?}; Tidegate needs it for its counters");
        for (subject, rule_id) in engine.fixed_cells() {
            if let Err(status) = host::set_shared(&self.fixed_key(&subject, rule_id), &[0; 24], IF_ABSENT)
                && status != Status::CAS_MISMATCH
            {
                return Err(refused(status));
            }
        }
        let (marker, buckets) = (self.key(b'm'), self.geometry.buckets().to_le_bytes());
        let (made, cas) = host::shared(&marker).unwrap_or((Vec::new(), IF_ABSENT));
        if made == buckets {
            return Ok(());
        }
        match host::set_shared(&marker, &buckets, cas) {
            Err(Status::CAS_MISMATCH) => return Ok(()),
            elected => elected.map_err(refused)?,
        }
        counters.show_table(self.geometry);
        for bucket in 0..self.geometry.buckets() {
            let key = self.bucket_key(bucket);
            // It is there where the policy comes back to a size that it had, or a worker serves already: then it stays.
            if host::set_shared(&key, &[], IF_ABSENT).is_err() {
                let kept = Bucket::read(&host::shared(&key).unwrap_or_default().0).len();
                counters.count_keys(self.geometry, i64::try_from(kept).unwrap_or(i64::MAX));
            }
        }
        Ok(())
    }

    /// Decides over the cells asked for and charges them, all or none.
    ///
    /// # Errors
    /// The host's shared data failed; nothing is charged.
    pub(crate) fn acquire(&self, engine: &Engine, acquire: &Acquire, counters: &Counters) -> Result<Reply, StoreError> {
        let mut slots = self.slots(acquire);
        let mut before = vec![Cell::default(); acquire.cells.len()];
        for slot in &mut slots {
            slot.read()?;
            slot.copy_to(acquire, &mut before);
        }
        let mut after = before.clone();
        let mut reply = acquire.settle(&mut after);
        if reply.outcome != Outcome::Granted {
            // Nothing is charged, but a clock that stepped back changes cells. Where this write comes too late, another
            // request's will do.
            for slot in &slots {
                let _ = slot.write((engine, acquire), (&before, &after), (counters, self.geometry));
            }
            return Ok(reply);
        }
        let mut tries = 0;
        for index in 0..slots.len() {
            let (done, rest) = slots.split_at_mut(index);
            let Some(slot) = rest.first_mut() else { break };
            loop {
                match slot.write((engine, acquire), (&before, &after), (counters, self.geometry)) {
                    Ok(()) => break,
                    Err(Unwritten::Changed) if tries < TRIES => tries += 1,
                    Err(why) => {
                        give_back(done, acquire, &mut reply.cells);
                        if why == Unwritten::Failed {
                            return Err(StoreError);
                        }
                        counters.count_contended();
                        reply.withdraw();
                        return Ok(reply);
                    }
                }
                if let Err(error) = slot.read() {
                    give_back(done, acquire, &mut reply.cells);
                    return Err(error);
                }
                slot.copy_to(acquire, &mut before);
                if !recharge(slot, acquire, &before, &mut after, &mut reply.cells) {
                    give_back(done, acquire, &mut reply.cells);
                    reply.outcome = Outcome::Refused;
                    return Ok(reply);
                }
            }
        }
        Ok(reply)
    }

    /// Makes the cells asked for like new; `false` where they changed under every try, or the host failed.
    pub(crate) fn clear(&self, engine: &Engine, acquire: &Acquire, counters: &Counters) -> bool {
        let like_new = vec![Cell::default(); acquire.cells.len()];
        self.slots(acquire).iter_mut().all(|slot| {
            (0..TRIES).any(|_| {
                let mut before = like_new.clone();
                if slot.read().is_err() {
                    return false;
                }
                slot.copy_to(acquire, &mut before);
                slot.write((engine, acquire), (&before, &like_new), (counters, self.geometry)).is_ok()
            })
        })
    }

    /// Gives back what a request charged that is never sent on.
    pub(crate) fn give_back(&self, reservation: &Reservation) {
        if !reservation.cells.iter().any(|cell| cell.charged) {
            return;
        }
        give_back(&mut self.slots(&reservation.acquire), &reservation.acquire, &mut reservation.cells.clone());
    }

    /// The slots that hold the cells asked for, each once.
    fn slots(&self, acquire: &Acquire) -> Vec<Slot> {
        let mut slots: Vec<Slot> = Vec::with_capacity(acquire.cells.len());
        for (index, request) in acquire.cells.iter().enumerate() {
            let Some(subject) = acquire.subjects.get(request.subject) else { continue };
            let (key, content) = if subject.kind.is_chosen_by_clients() {
                let place = self.geometry.place(subject, request.group, self.seed);
                (self.bucket_key(place.bucket), Content::shared(place.fingerprint))
            } else {
                (self.fixed_key(subject, request.rule_id), Content::own())
            };
            // Two subjects in one bucket are one slot: each cell then needs its own fingerprint.
            match slots.iter_mut().find(|slot| slot.is_at(&key)) {
                Some(slot) => slot.add(index, &content),
                None => slots.push(Slot::new(key, index, content)),
            }
        }
        slots
    }

    /// What starts every key of this deployment in shared data.
    pub(crate) fn prefix(&self) -> [u8; 8] {
        self.prefix
    }

    /// 64 bits that tell a subject from all others.
    pub(crate) fn fingerprint(&self, subject: &Subject) -> u64 {
        self.geometry.place(subject, 0, self.seed).fingerprint
    }

    fn key(&self, kind: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(32);
        key.extend_from_slice(&self.prefix);
        key.push(kind);
        key
    }

    /// Buckets of another geometry have other names: two sizes never mix.
    fn bucket_key(&self, bucket: u32) -> Vec<u8> {
        let mut key = self.key(b'b');
        key.extend_from_slice(&self.geometry.buckets().to_le_bytes());
        key.extend_from_slice(&bucket.to_le_bytes());
        key
    }

    fn fixed_key(&self, subject: &Subject, rule_id: u64) -> Vec<u8> {
        let mut key = self.key(b'f');
        key.extend_from_slice(&rule_id.to_le_bytes());
        if subject.kind == Kind::Template {
            key.extend_from_slice(&self.fingerprint(subject).to_le_bytes());
        }
        key
    }
}

/// 64 bits that tell these names from others.
pub(crate) fn hash_of(names: &[&[u8]]) -> [u8; 8] {
    let mut hasher = Sha256::new();
    for name in names {
        hasher.update(u64::try_from(name.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(name);
    }
    let mut hash = [0; 8];
    for (to, from) in hash.iter_mut().zip(hasher.finalize()) {
        *to = from;
    }
    hash
}

/// The secret that places keys in buckets, shared by all workers: the first VM to come makes it.
fn seed(prefix: [u8; 8]) -> Result<[u8; 16], String> {
    let mut key = prefix.to_vec();
    key.push(b's');
    let mut made = [0; 16];
    getrandom::fill(&mut made).map_err(|error| format!("the host gives no random bytes: {error}"))?;
    // Where another VM was first, this answers CAS_MISMATCH and its seed is read.
    let _ = host::set_shared(&key, &made, IF_ABSENT);
    let (value, _) = host::shared(&key).map_err(|status| format!("the host's shared data answers {status:?}"))?;
    <[u8; 16]>::try_from(value.as_slice()).map_err(|_| "the table's seed in shared data is damaged".to_owned())
}

/// Charges a slot's cells again after it was read again; `false` where a must-cell no longer conforms.
fn recharge(slot: &Slot, acquire: &Acquire, before: &[Cell], after: &mut [Cell], replies: &mut [CellReply]) -> bool {
    let mut conforms = true;
    for index in slot.cells() {
        let (Some(request), Some(before)) = (acquire.cells.get(index), before.get(index)) else { continue };
        let (Some(after), Some(reply)) = (after.get_mut(index), replies.get_mut(index)) else { continue };
        let (charged, wait) = request.charge(*before, acquire.now);
        *after = charged.unwrap_or(*before);
        *reply = request.reply(*after, wait, charged.is_some(), acquire.now);
        conforms &= !request.must || request.admits(wait);
    }
    conforms
}

/// Refunds what was charged to slots already written, after which no reply says that anything is charged. What cannot be
/// given back within the tries is forfeited.
fn give_back(charged: &mut [Slot], acquire: &Acquire, replies: &mut [CellReply]) {
    let now = host::now();
    let before: Vec<CellReply> = replies.to_vec();
    for reply in replies {
        reply.charged = false;
    }
    let refund = |index: usize, cell: Cell| {
        let (request, reply) = (acquire.cells.get(index)?, before.get(index)?);
        request.refund(cell, reply, acquire.now, now)
    };
    for slot in charged {
        for _ in 0..TRIES {
            if slot.read().is_err() || slot.refund(acquire, refund) != Err(Unwritten::Changed) {
                break;
            }
        }
    }
}
