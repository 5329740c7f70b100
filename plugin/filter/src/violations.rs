//! Who is refused most, by user, by address and by endpoint: a sketch a worker in memory, written at most once a second
//! into one of a few keys of shared data, and merged with the others' when somebody asks.

use core::cell::RefCell;

use tidegate_engine::admin::runtime::Baseline;
use tidegate_engine::admin::{hex, number, object, text};
use tidegate_engine::alert::meter::Offenders;
use tidegate_engine::identity::{Identity, Subject};
use tidegate_engine::policy::{Alert, Condition, Node, Policy};
use tidegate_engine::topk::{self, TopK};
use tidegate_engine::{Decision, Engine, Header, Micros, Readings, Request, Timestamp};

use crate::counters::word;
use crate::host::{self, IF_ABSENT, Status};

/// What violations are told by.
const KINDS: [&str; 3] = ["users", "ips", "endpoints"];
/// How many workers' sketches are kept; more share the oldest's place.
const SLOTS: u8 = 32;
/// A sketch that was not written for so long is a dead worker's: whoever takes its place takes its counts over.
const DEAD_AFTER: Micros = Micros::from_secs(3600);
/// How often a sketch is written.
const WRITE_EVERY: Micros = Micros::from_secs(1);
/// A longer key is shown by its beginning and its hash.
const LONGEST_KEY: usize = 128;
/// How many keys are shown.
const SHOWN: usize = 20;

/// One worker's sketches.
#[derive(Debug)]
pub(crate) struct Violations {
    key: Vec<u8>,
    sketches: [TopK; 3],
    worker: String,
    slot: Option<u8>,
    is_unwritten: bool,
    /// On the steady clock.
    written_at: Timestamp,
    forgotten: Timestamp,
}

impl Violations {
    /// Opens those of the deployment whose keys start with `prefix`; `None` where nobody asks for them: without admin API,
    /// and without an alert on a top violator.
    pub(crate) fn open(prefix: [u8; 8], policy: &Policy) -> Option<RefCell<Self>> {
        let watches = |alert: &Alert| matches!(alert.when, Condition::TopViolatorShareAbove(_));
        if !policy.admin_api.is_on() && !policy.alerts.iter().any(watches) {
            return None;
        }
        let mut random = [0; 8];
        let _ = getrandom::fill(&mut random);
        let mut key = prefix.to_vec();
        key.push(b'V');
        Some(RefCell::new(Self {
            key,
            sketches: Default::default(),
            worker: hex(&random),
            slot: None,
            is_unwritten: false,
            written_at: Timestamp::default(),
            forgotten: Timestamp::default(),
        }))
    }

    /// When the sketches are to be written, on the steady clock.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.is_unwritten.then(|| self.written_at + WRITE_EVERY)
    }

    /// Counts whom a decision refuses; `true` where this is the first since the sketches were written.
    pub(crate) fn note(&mut self, engine: &Engine, decision: &Decision, headers: &[Header<'_>]) -> bool {
        let policy = engine.policy();
        let refusing = decision.verdicts.iter().filter(|verdict| word(verdict, decision) == "limited");
        let rules: Vec<_> = refusing.filter_map(|verdict| policy.rules.get(verdict.rule)).collect();
        if rules.is_empty() {
            return false;
        }
        let peer = host::property(["source", "address"]).unwrap_or_default();
        let metadata: Vec<Vec<u8>> = engine.metadata_sources().map(crate::exchange::metadata).collect();
        let request = Request { headers, peer: &peer, metadata: &metadata };
        let identity = Identity::of(&request, &policy.identity);
        let user = identity.user.as_ref().map(|user| {
            if user.verified { short(&user.id) } else { format!("sha256:{}", hex(&Subject::user(user).digest())) }
        });
        let ip = String::from_utf8_lossy(&Subject::address(identity.address, &policy.identity).value).into_owned();
        let readings = Readings::of(request.path(), policy.paths_are_loose);
        let [users, ips, endpoints] = &mut self.sketches;
        for rule in rules {
            let group = topk::group_of(&rule.name);
            if let Some(user) = &user {
                users.count(group, user);
            }
            ips.count(group, &ip);
            let template = rule.endpoints.iter().find(|template| template.matches_normalised(&readings.normalised));
            match template {
                Some(template) => endpoints.count(group, template.as_str()),
                None => endpoints.count(group, &short(&String::from_utf8_lossy(&readings.normalised))),
            }
        }
        if self.is_unwritten {
            return false;
        }
        self.is_unwritten = true;
        self.written_at = self.written_at.max(host::steady());
        true
    }

    /// Forgets the rules that were reset since it did so last.
    pub(crate) fn forget_reset(&mut self, baselines: &[Baseline]) {
        let (before, mut latest) = (self.forgotten, self.forgotten);
        for baseline in baselines.iter().filter(|baseline| baseline.at > before) {
            let group = topk::group_of(&baseline.rule);
            self.sketches.iter_mut().for_each(|sketch| sketch.retain(|known| known != group));
            latest = latest.max(baseline.at);
            self.is_unwritten = true;
        }
        self.forgotten = latest;
    }

    /// Writes the sketches where all workers see them, if it is time.
    pub(crate) fn write(&mut self) {
        let now = host::steady();
        if self.next_due().is_none_or(|due| due > now) {
            return;
        }
        (self.is_unwritten, self.written_at) = (false, now);
        let mut oldest: Option<(Timestamp, u8)> = None;
        for slot in self.slot.into_iter().chain(0..SLOTS) {
            let (stored, cas) = Stored::read(&self.key, slot);
            let is_ours = stored.as_ref().is_none_or(|stored| stored.worker == self.worker);
            let is_dead = stored.as_ref().is_some_and(|stored| now.since(stored.written_at) > DEAD_AFTER);
            if is_ours || is_dead {
                if let Some(stored) = stored.filter(|_| is_dead && !is_ours) {
                    for (mine, theirs) in self.sketches.iter_mut().zip(stored.sketches) {
                        mine.merge(theirs);
                    }
                }
                if self.put(slot, cas, now) {
                    return;
                }
            } else if let Some(stored) = stored
                && oldest.is_none_or(|(at, _)| stored.written_at < at)
            {
                oldest = Some((stored.written_at, slot));
            }
        }
        if let Some((_, slot)) = oldest {
            let (_, cas) = Stored::read(&self.key, slot);
            self.put(slot, cas, now);
        }
    }

    fn put(&mut self, slot: u8, cas: u32, now: Timestamp) -> bool {
        let [users, ips, endpoints] = &self.sketches;
        let bytes = object(&mut [
            ("worker", text(&self.worker)),
            ("at_us", number(host::now().micros())),
            ("written_at_us", number(now.micros())),
            (KINDS[0], users.stored()),
            (KINDS[1], ips.stored()),
            (KINDS[2], endpoints.stored()),
        ])
        .to_json();
        let done = host::set_shared(&slot_key(&self.key, slot), bytes.as_bytes(), cas) != Err(Status::CAS_MISMATCH);
        if done {
            self.slot = Some(slot);
        }
        done
    }

    /// All workers' sketches in one; without what was counted before a rule's reset.
    pub(crate) fn merged(&self, baselines: &[Baseline]) -> Merged {
        let mut merged = self.sketches.clone();
        for slot in 0..SLOTS {
            let Some(stored) = Stored::read(&self.key, slot).0.filter(|stored| stored.worker != self.worker) else {
                continue;
            };
            let reset: Vec<u64> = baselines
                .iter()
                .filter(|baseline| baseline.at >= stored.at)
                .map(|baseline| topk::group_of(&baseline.rule))
                .collect();
            for (mine, mut theirs) in merged.iter_mut().zip(stored.sketches) {
                theirs.retain(|group| !reset.contains(&group));
                mine.merge(theirs);
            }
        }
        Merged(merged)
    }
}

/// All workers' sketches.
pub(crate) struct Merged([TopK; 3]);

impl Merged {
    /// Who is refused under a rule, or under all of them.
    pub(crate) fn offenders(&self, rule: Option<&str>) -> Offenders<'_> {
        let [users, addresses, _] = &self.0;
        Offenders { users, addresses, group: rule.map(topk::group_of) }
    }

    /// The most refused of a rule, as the API shows them.
    pub(crate) fn shown(&self, rule: &str) -> Node {
        let group = topk::group_of(rule);
        let members = KINDS.iter().zip(&self.0).map(|(kind, sketch)| ((*kind).to_owned(), sketch.shown(group, SHOWN)));
        Node::Object(members.collect())
    }
}

/// A sketch as it lies in shared data.
struct Stored {
    worker: String,
    /// When it was written, on the wall clock, as resets are.
    at: Timestamp,
    /// The same on the steady clock.
    written_at: Timestamp,
    sketches: [TopK; 3],
}

impl Stored {
    fn read(key: &[u8], slot: u8) -> (Option<Self>, u32) {
        let Ok((bytes, cas)) = host::shared(&slot_key(key, slot)) else { return (None, IF_ABSENT) };
        let read = |node: Node| {
            Some(Self {
                worker: node.word("worker")?.to_owned(),
                at: Timestamp::from_micros(node.get("at_us")?.whole()?),
                written_at: Timestamp::from_micros(node.get("written_at_us")?.whole()?),
                sketches: KINDS.map(|kind| node.get(kind).map(TopK::restored).unwrap_or_default()),
            })
        };
        (topk::read(&bytes).and_then(read), cas)
    }
}

fn slot_key(key: &[u8], slot: u8) -> Vec<u8> {
    let mut key = key.to_vec();
    key.push(slot);
    key
}

/// A key that is not too long to be kept many times.
fn short(key: &str) -> String {
    if key.len() <= LONGEST_KEY {
        return key.to_owned();
    }
    let start: String = key.chars().take(LONGEST_KEY / 4).collect();
    format!("{start}... {:016x}", topk::group_of(key))
}
