//! How many requests each VM holds, so that what a VM held that died leaves the gauge `waiting` again.
//!
//! A VM that holds requests has a seat in shared data, which it renews, and a gauge of the seat's own. Where a seat was not
//! renewed in time its VM is dead: whoever takes the seat over, by compare-and-swap, takes what its gauge says from
//! `waiting`. Every VM looks over the seats once, when it has been configured: a VM that takes a dead one's place does.

use core::cell::{Cell, RefCell};

use tidegate_engine::{Micros, Timestamp};

use crate::counters::Counters;
use crate::host::{self, IF_ABSENT, Metric, MetricKind, define_metric};

/// How long a seat is kept. A worker that renews it late by so much has hung.
const LEASE: Micros = Micros::from_secs(30);
/// When it is renewed.
const RENEW_BEFORE: Micros = Micros::from_secs(15);
/// How long it is kept where renewing it failed: until that is due again in a second.
const AGAIN: Micros = Micros::from_secs(16);
/// How many VMs may hold requests at once; the requests of more are counted, and stay counted where such a VM dies.
const SEATS: u8 = 64;

/// The requests that one VM holds for one deployment.
#[derive(Debug)]
pub(crate) struct Held {
    prefix: [u8; 8],
    me: [u8; 8],
    /// Requests that are held now, in all VMs.
    waiting: Metric,
    count: Cell<u32>,
    seat: Cell<Option<(u8, Metric)>>,
    until: Cell<Timestamp>,
    /// When the seats are looked over.
    look_at: Cell<Option<Timestamp>>,
    /// The gauges of the seats that there are, from the first on. Those that were there when this VM was configured are
    /// defined then: an update of the plugin's code would begin a new one at zero.
    gauges: RefCell<Vec<Metric>>,
    /// What the gauges' names begin with.
    by_vm: String,
}

/// Whose a seat is, until when, and what to write it with.
struct Seat {
    owner: [u8; 8],
    until: Timestamp,
    cas: u32,
}

impl Held {
    /// Opens the seats of the deployment whose keys start with `prefix`.
    pub(crate) fn open(prefix: [u8; 8], counters: &Counters) -> Self {
        let mut me = [0; 8];
        let _ = getrandom::fill(&mut me);
        let held = Self {
            prefix,
            me,
            waiting: counters.waiting,
            count: Cell::new(0),
            seat: Cell::default(),
            until: Cell::default(),
            look_at: Cell::default(),
            gauges: RefCell::default(),
            by_vm: counters.name("waiting_by_vm."),
        };
        let is_there = |number: &u8| held.read(*number).is_some_and(|seat| seat.cas != IF_ABSENT);
        for number in (0..SEATS).take_while(is_there) {
            held.gauge(number);
            // Whoever died has a seat that ends within a lease.
            held.look_at.set(Some(host::steady() + LEASE));
        }
        held
    }

    /// Counts a request that is held from now on. The tick that follows sees to the seat.
    pub(crate) fn enter(&self) {
        if self.until.get() <= host::steady() {
            self.seat.set(None);
        }
        self.count(1);
    }

    /// Counts a request that is not held any more.
    pub(crate) fn leave(&self) {
        let now = host::steady();
        if self.until.get() <= now {
            self.renew(now);
        }
        self.count(-1);
    }

    /// Whether this VM holds none.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    fn count(&self, change: i32) {
        self.count.set(self.count.get().saturating_add_signed(change));
        self.waiting.add(change.into());
        if let Some((_, gauge)) = self.seat.get() {
            gauge.add(change.into());
        }
    }

    /// When there is something to do next, on the steady clock.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let renew_at = match self.seat.get() {
            _ if self.is_empty() => None,
            None => Some(self.until.get()),
            Some(_) => Some(Timestamp::from_micros(self.until.get().micros().saturating_sub(RENEW_BEFORE.0))),
        };
        renew_at.into_iter().chain(self.look_at.get()).min()
    }

    /// Renews the seat, and takes what dead VMs held out of the gauge, as often as either is due.
    pub(crate) fn tick(&self) {
        let now = host::steady();
        if self.next_due().is_none_or(|due| due > now) {
            return;
        }
        if self.look_at.get().is_some_and(|at| at <= now) {
            self.look_at.set(None);
            for number in 0..SEATS {
                let Some(seat) = self.read(number).filter(|seat| seat.cas != IF_ABSENT) else { break };
                self.take(number, &seat, [0; 8], now);
            }
        }
        if !self.is_empty() {
            self.renew(now);
        }
    }

    /// Makes sure that this VM has a seat, and that its gauge says what it holds.
    fn renew(&self, now: Timestamp) {
        let seat = self.seat.get().and_then(|(number, _)| Some((number, self.read(number)?)));
        if let Some((number, seat)) = seat.filter(|(_, seat)| seat.owner == self.me) {
            let is_renewed = self.write(number, self.me, now + LEASE, seat.cas);
            // Where it is not, it is tried again in a second.
            return self.until.set(now + if is_renewed { LEASE } else { AGAIN });
        }
        if self.seat.take().is_some() {
            // Somebody took this VM for dead, and took out of the gauge what it holds.
            self.waiting.add(self.count.get().into());
        }
        // Where no seat is free, or the host fails, it is tried again when one may be.
        self.until.set(now + LEASE);
        for number in 0..SEATS {
            let Some(seat) = self.read(number) else { return };
            if self.take(number, &seat, self.me, now) {
                let gauge = self.gauge(number);
                gauge.set(self.count.get().into());
                return self.seat.set(Some((number, gauge)));
            }
        }
    }

    /// Takes a seat that is nobody's any more, and takes what its VM held out of the gauge; `false` where it is somebody's.
    fn take(&self, number: u8, seat: &Seat, owner: [u8; 8], now: Timestamp) -> bool {
        let is_kept = seat.until > now && seat.until <= now + LEASE;
        let until = if owner == self.me { now + LEASE } else { Timestamp::default() };
        if is_kept || !self.write(number, owner, until, seat.cas) {
            return false;
        }
        let gauge = self.gauge(number);
        let lost = i64::try_from(gauge.value()).unwrap_or(0);
        if lost > 0 {
            self.waiting.add(lost.saturating_neg());
        }
        gauge.set(0);
        true
    }

    fn gauge(&self, number: u8) -> Metric {
        let mut gauges = self.gauges.borrow_mut();
        loop {
            if let Some(gauge) = gauges.get(usize::from(number)) {
                return *gauge;
            }
            let next = gauges.len().to_string();
            gauges.push(define_metric(MetricKind::Gauge, &[self.by_vm.as_str(), &next].concat()));
        }
    }

    /// A seat as it is now, a free one where there is none yet; `None` where the host does not say.
    fn read(&self, number: u8) -> Option<Seat> {
        let (bytes, cas) = match host::shared(&self.key(number)) {
            Ok(found) => found,
            Err(host::Status::NOT_FOUND) => (Vec::new(), IF_ABSENT),
            Err(_) => return None,
        };
        let (words, _) = bytes.as_chunks::<8>();
        let mut words = words.iter();
        let owner = words.next().copied().unwrap_or_default();
        let until = Timestamp::from_micros(u64::from_le_bytes(words.next().copied().unwrap_or_default()));
        Some(Seat { owner, until, cas })
    }

    fn write(&self, number: u8, owner: [u8; 8], until: Timestamp, cas: u32) -> bool {
        host::set_shared(&self.key(number), &[owner, until.micros().to_le_bytes()].concat(), cas).is_ok()
    }

    fn key(&self, number: u8) -> Vec<u8> {
        let mut key = self.prefix.to_vec();
        key.extend_from_slice(&[b'H', number]);
        key
    }
}
