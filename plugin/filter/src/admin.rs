//! The admin API over HTTP: who may call, the state that all workers share, what requests under it leave behind. What
//! calls mean, and how their answers look, is the engine's `admin`.

mod calls;
mod logins;
mod metrics;
mod spread;
mod state;

use core::cell::{Cell, RefCell};

use sha2::{Digest, Sha256};
use tidegate_engine::admin::answer;
use tidegate_engine::admin::call::{Call, Unroutable};
use tidegate_engine::admin::runtime::{Baseline, Runtime};
use tidegate_engine::admin::{hex, overlay};
use tidegate_engine::policy::{AdminApi, AdminToken, Policy, Store};
use tidegate_engine::{Decision, Engine, Header, Micros, Readings, Request, Response, Timestamp};

use crate::counters::Counters;
use crate::host::{self, Level, Metric, MetricKind};
use crate::root::Deployment;
use logins::Logins;
pub(crate) use spread::Asks;
use spread::Spread;
pub(crate) use state::Draft;

/// When what is due is tried again after it failed: a tick would otherwise follow the other.
const AGAIN_AFTER: Micros = Micros::from_secs(1);

/// What a deployment with an admin API keeps besides the rest.
#[derive(Debug)]
pub(crate) struct Operated {
    prefix: [u8; 8],
    /// The policy file's text.
    file: Vec<u8>,
    file_sha256: String,
    /// Grows with every change of the state in any worker, so that a request asks only for a number.
    changes: Metric,
    /// How far this worker has read.
    seen: Cell<Option<u64>>,
    runtime: RefCell<Runtime>,
    /// Before this moment grants that have ended are not noted: the last try failed.
    not_before: Cell<Timestamp>,
    /// The last time that something was due it was not done; the log says why.
    was_stuck: Cell<bool>,
    /// Why the rules put at run time do not fit the policy file; empty where they do.
    misfit: RefCell<Vec<String>>,
    /// The policy file's own policy, without what is laid over it.
    own: RefCell<Option<Engine>>,
    /// In a fleet.
    spread: Option<Spread>,
    logins: Logins,
    /// Grants in force now.
    overrides_active: Metric,
    /// VMs that have served a request.
    workers: Metric,
    has_served: Cell<bool>,
}

/// What becomes of a request.
pub(crate) enum Admission {
    /// It is no call: it goes the way of all others.
    NoCall,
    /// It is answered so.
    Refused(Response),
    /// It is a call that its caller may make.
    Admitted {
        /// The token's name.
        caller: String,
        /// What is asked.
        call: Call,
    },
}

impl Operated {
    /// Opens the state of the deployment whose keys start with `prefix`; `None` without tokens.
    pub(crate) fn open(prefix: [u8; 8], file: &[u8], policy: &Policy, counters: &Counters) -> Option<Self> {
        let metric = |kind, name| counters.metric(kind, name);
        policy.admin_api.is_on().then(|| Self {
            prefix,
            file: file.to_vec(),
            file_sha256: hex(&Sha256::digest(file)),
            changes: metric(MetricKind::Gauge, "admin_changes"),
            seen: Cell::new(None),
            runtime: RefCell::default(),
            not_before: Cell::default(),
            was_stuck: Cell::new(false),
            misfit: RefCell::default(),
            own: RefCell::default(),
            spread: matches!(policy.store, Store::Redis(_)).then(|| Spread::new(&policy.namespace)),
            logins: Logins::new(metric(MetricKind::Counter, "admin_failed_logins_total")),
            overrides_active: metric(MetricKind::Gauge, "overrides_active"),
            workers: metric(MetricKind::Gauge, "admin_workers"),
            has_served: Cell::new(false),
        })
    }

    /// When the next grant ends; in a fleet that is noted with the next look at the store.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let ends = if self.spread.is_some() { None } else { self.runtime.borrow().next_expiry() };
        ends.map(|at| at.max(self.not_before.get()))
    }

    /// When the store is looked at next, on the steady clock.
    pub(crate) fn next_look(&self) -> Option<Timestamp> {
        self.spread.as_ref().map(Spread::next_look)
    }

    fn key(&self, kind: u8) -> Vec<u8> {
        let mut key = self.prefix.to_vec();
        key.push(kind);
        key
    }
}

impl Drop for Operated {
    fn drop(&mut self) {
        if self.has_served.get() {
            self.workers.add(-1);
        }
    }
}

impl Deployment {
    /// Takes over what another worker changed, if one did. Costs one metric read a request.
    pub(crate) fn refresh(&self, now: Timestamp) {
        let Some(operated) = &self.operated else { return };
        let changes = operated.changes.value();
        if operated.seen.get() == Some(changes) {
            return;
        }
        operated.seen.set(Some(changes));
        let (runtime, _) = operated.read_state();
        let own = operated.own.borrow_mut().get_or_insert_with(|| self.engine()).clone();
        let has_other_rules = operated.runtime.borrow().rules != runtime.rules;
        let base = if !has_other_rules {
            self.engine()
        } else if runtime.rules.is_empty() {
            operated.misfit.borrow_mut().clear();
            own
        } else {
            match overlay::compiled(&operated.file, &runtime.rules, &crate::catalogue()) {
                Ok(policy) => {
                    operated.misfit.borrow_mut().clear();
                    Engine::new(policy)
                }
                Err(mistakes) => {
                    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                    for line in &lines {
                        let what = "the rules put at run time do not fit the policy and are not applied";
                        host::log(Level::Error, &format!("{what}: {line}"));
                    }
                    *operated.misfit.borrow_mut() = lines;
                    own
                }
            }
        };
        operated.overrides_active.set(runtime.grants.len() as u64);
        if let Some(violations) = &self.violations {
            violations.borrow_mut().forget_reset(&runtime.baselines);
        }
        self.replace_engine(base.with_grants(&runtime.grants));
        *operated.runtime.borrow_mut() = runtime;
        self.keep_ticking(now, false);
    }

    /// What is to be done between requests: grants that have ended are noted, and a fleet's state is looked at.
    pub(crate) fn operate(&self, now: Timestamp) {
        let Some(operated) = &self.operated else { return };
        self.refresh(now);
        if let Some(spread) = &operated.spread {
            return self.look_at_store(operated, spread);
        }
        if operated.next_due().is_some_and(|at| at <= now) {
            // Every worker tries; whoever writes first has noted it, the others find nothing.
            let noted = operated.change(&|mut runtime| {
                runtime.expire(now);
                Ok((runtime, answer::nothing()))
            });
            if let Err(why) = noted {
                operated.not_before.set(now + AGAIN_AFTER);
                operated.complain(&["overrides that have ended stay in the list: ", &why.body].concat());
            }
            operated.seen.set(None);
            self.refresh(now);
        }
    }

    /// Notes of a decision what only the admin API and alerts tell.
    pub(crate) fn note(&self, decision: &Decision, headers: &[Header<'_>], now: Timestamp) {
        let engine = self.engine();
        if let Some(operated) = &self.operated {
            if !operated.has_served.replace(true) {
                operated.workers.add(1);
            }
            self.counters.count_remaining(decision, engine.policy());
        }
        if let Some(violations) = &self.violations
            && violations.borrow_mut().note(&engine, decision, headers)
        {
            self.keep_ticking(now, false);
        }
    }

    /// The state at run time as this worker last read it.
    pub(crate) fn baselines(&self) -> Vec<Baseline> {
        self.operated.as_ref().map(|operated| operated.runtime.borrow().baselines.clone()).unwrap_or_default()
    }

    /// Whether a request is a call of the admin API, and one that its caller may make.
    pub(crate) fn admit(&self, lines: &[Header<'_>], now: Timestamp) -> Admission {
        let Some(operated) = &self.operated else { return Admission::NoCall };
        let engine = self.engine();
        let policy = engine.policy();
        let request = Request { headers: lines, peer: b"", metadata: &[] };
        let rest = match place(policy, &request) {
            Place::Elsewhere => return Admission::NoCall,
            Place::Misspelt => return Admission::Refused(answer::problem(404, "There is nothing here.")),
            Place::Here(rest) => rest,
        };
        let Some(token) = holder(&policy.admin_api, &request) else {
            operated.login_failed(now);
            return Admission::Refused(answer::unauthorized());
        };
        let call = match Call::of(request.method(), rest) {
            Ok(call) => call,
            Err(Unroutable::NotFound) => return Admission::Refused(answer::problem(404, "There is no such call.")),
            Err(Unroutable::Query(mistakes)) => {
                return Admission::Refused(answer::mistakes(422, "The query does not fit.", &mistakes));
            }
            Err(Unroutable::Method(methods)) => {
                let mut response = answer::problem(405, "This call has other methods.");
                response.headers.push(("allow".into(), methods.to_owned()));
                return Admission::Refused(response);
            }
        };
        if call.writes() && !token.may_write {
            return Admission::Refused(answer::problem(403, "This token may look and not change."));
        }
        if call.has_body() && !request.only_value("content-type").is_some_and(is_json) {
            return Admission::Refused(answer::problem(415, "The body must be application/json."));
        }
        Admission::Admitted { caller: token.name.clone(), call }
    }
}

/// Where a request's path leads.
enum Place<'r> {
    /// Not to the admin API.
    Elsewhere,
    /// To it, by another spelling or for another host: it must not reach an upstream that reads it otherwise.
    Misspelt,
    /// To it; what follows the configured path, with the query.
    Here(&'r [u8]),
}

fn place<'r>(policy: &Policy, request: &Request<'r>) -> Place<'r> {
    let api = &policy.admin_api;
    let leads_there = |path: &[u8], to: &str| {
        path.strip_prefix(to.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    };
    let readings = Readings::of(request.path(), policy.paths_are_loose);
    let is_meant = if policy.paths_are_loose {
        leads_there(&readings.normalised, &api.path.to_ascii_lowercase())
    } else {
        leads_there(&readings.normalised, &api.path)
    };
    // `/.tidegate/../api` starts like it and is another path to whoever resolves it.
    if !is_meant {
        return Place::Elsewhere;
    }
    let rest = request.path().strip_prefix(api.path.as_bytes());
    let is_served =
        api.hosts.is_empty() || request.only_value(":authority").is_some_and(|host| is_one_of(&api.hosts, host));
    match rest {
        Some(rest) if is_served && matches!(rest.first(), None | Some(b'/' | b'?')) => Place::Here(rest),
        _ => Place::Misspelt,
    }
}

/// Whether a host is in the list, in any case; one that is listed without port is meant with every port.
fn is_one_of(hosts: &[String], host: &[u8]) -> bool {
    let bare = match host.iter().rposition(|byte| *byte == b':') {
        Some(at) if host.get(at..).is_some_and(|port| !port.contains(&b']')) => host.get(..at).unwrap_or(host),
        _ => host,
    };
    hosts.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(host) || known.as_bytes().eq_ignore_ascii_case(bare))
}

/// The token that a request carries, where it is one of the policy's. All hashes are compared whole, so that the time
/// it takes tells nothing of them.
fn holder<'p>(api: &'p AdminApi, request: &Request<'_>) -> Option<&'p AdminToken> {
    const LONGEST: usize = 4096;
    let value = request.only_value("authorization").unwrap_or_default();
    let (scheme, token) = value.split_at_checked(7).unwrap_or_default();
    let fits = scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() && token.len() <= LONGEST;
    let digest = Sha256::digest(if fits { token } else { b"" });
    let mut found = None;
    for known in &api.tokens {
        let difference = known.sha256.iter().zip(digest).fold(0, |sum, (a, b)| sum | core::hint::black_box(a ^ b));
        if difference == 0 && fits {
            found = Some(known);
        }
    }
    found
}

fn is_json(value: &[u8]) -> bool {
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/json")
}
