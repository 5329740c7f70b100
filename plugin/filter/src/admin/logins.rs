//! Failed logins: counted, and noted in a trail of their own, so that no flood of them pushes anything off the audit
//! trail. Whoever fails is answered the same however often; a right token is never kept out.

use core::cell::{Cell, RefCell};

use tidegate_engine::address::parse_address;
use tidegate_engine::admin::audit::{LOGIN_FAILED, Trail};
use tidegate_engine::admin::{number, object, text};
use tidegate_engine::policy::Node;
use tidegate_engine::topk;
use tidegate_engine::{Micros, Timestamp};

use super::Operated;
use crate::host::{self, IF_ABSENT, Level, Metric};

/// How many failures a worker notes a minute, of one address and of all; the rest is only counted.
const OF_ADDRESS: u32 = 10;
const OF_ALL: u32 = 60;
const MINUTE: Micros = Micros::from_secs(60);
/// The most bytes of the trail: 256 entries have 100,000.
const MOST_BYTES: usize = 128_000;
/// How many addresses a worker remembers.
const ADDRESSES: usize = 256;

/// The failed logins of one worker in the current minute.
#[derive(Debug)]
pub(super) struct Logins {
    total: Metric,
    since: Cell<Timestamp>,
    noted: Cell<u32>,
    by_address: RefCell<Vec<(String, u32)>>,
}

impl Logins {
    pub(super) fn new(total: Metric) -> Self {
        Self { total, since: Cell::default(), noted: Cell::new(0), by_address: RefCell::default() }
    }

    /// Whether this failure is one of the few that are noted.
    fn is_noted(&self, address: &str, now: Timestamp) -> bool {
        let mut addresses = self.by_address.borrow_mut();
        if now < self.since.get() || now.since(self.since.get()) >= MINUTE {
            self.since.set(now);
            self.noted.set(0);
            addresses.clear();
        }
        let is_full = addresses.len() >= ADDRESSES;
        let count = match addresses.iter_mut().find(|(known, _)| known == address) {
            Some((_, count)) => {
                *count = count.saturating_add(1);
                *count
            }
            None if is_full => return false,
            None => {
                addresses.push((address.to_owned(), 1));
                1
            }
        };
        let is_noted = count <= OF_ADDRESS && self.noted.get() < OF_ALL;
        self.noted.set(self.noted.get().saturating_add(u32::from(is_noted)));
        is_noted
    }
}

impl Operated {
    /// Notes a request without a right token.
    pub(super) fn login_failed(&self, now: Timestamp) {
        self.logins.total.add(1);
        let peer = host::property(["source", "address"]).unwrap_or_default();
        let address = parse_address(&peer).map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        if !self.logins.is_noted(&address, now) {
            return;
        }
        for _ in 0..8 {
            let (mut trail, cas) = self.failed_logins();
            trail.append(now, "unknown", LOGIN_FAILED, object(&mut [("ip_address", text(&address))]));
            let bytes = trail.stored(MOST_BYTES).to_json();
            if host::set_shared(&self.key(b'L'), bytes.as_bytes(), cas).is_ok() {
                if let Some(entry) = trail.last() {
                    host::log(Level::Warn, &entry.line());
                }
                return;
            }
        }
    }

    /// The failed logins as the API shows them.
    pub(super) fn shown_logins(&self) -> Node {
        let (trail, _) = self.failed_logins();
        let entries = trail.shown(0);
        object(&mut [
            ("total", number(self.logins.total.value())),
            ("entries", entries.get("entries").cloned().unwrap_or(Node::Null)),
        ])
    }

    fn failed_logins(&self) -> (Trail, u32) {
        match host::shared(&self.key(b'L')) {
            Ok((bytes, cas)) => (topk::read(&bytes).as_ref().and_then(Trail::restored).unwrap_or_default(), cas),
            Err(_) => (Trail::default(), IF_ABSENT),
        }
    }
}
