//! The root context: takes the policy from the plugin's configuration and makes of it a [`Deployment`] that every
//! exchange shares. One VM may hold several roots, each with its own policy; nothing here is shared between them.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use tidegate_engine::policy::{Mistakes, Policy, Store};
use tidegate_engine::{Engine, Micros, Timestamp};

use crate::admin::Operated;
use crate::alerts::Alerts;
use crate::counters::Counters;
use crate::exchange::{Awaited, Exchange};
use crate::fleet::{Errand, Fleet, Settled};
use crate::held::Held;
use crate::host::{self, Buffer, Level};
use crate::jobs::{Jobs, Told};
use crate::shared_table::{SharedTable, hash_of};
use crate::timer::Timer;
use crate::violations::Violations;
use crate::waiting::WaitingRoom;

/// One policy at work: what all exchanges of a root share.
#[derive(Debug)]
pub(crate) struct Deployment {
    engine: RefCell<Engine>,
    /// What the admin API needs; `None` without tokens.
    pub(crate) operated: Option<Operated>,
    /// Who is refused most; `None` where nobody asks.
    pub(crate) violations: Option<RefCell<Violations>>,
    pub(crate) alerts: Option<Alerts>,
    /// This proxy's own cells.
    pub(crate) table: SharedTable,
    /// The store that a fleet shares; `None` where the policy's store is local.
    pub(crate) fleet: Option<Fleet>,
    pub(crate) counters: Counters,
    pub(crate) waiting: RefCell<WaitingRoom>,
    pub(crate) held: Held,
    pub(crate) jobs: Jobs,
    /// The host is known to show no request bodies.
    pub(crate) bodies_are_hidden: Cell<bool>,
    timer: Rc<Timer>,
}

/// The plugin's root context.
#[derive(Debug, Default)]
pub(crate) struct Root {
    deployment: Option<Rc<Deployment>>,
}

impl Root {
    /// Takes a policy, beside those of the other roots. `false` refuses it: at start the host stops, later it keeps the
    /// policy that it has.
    pub(crate) fn configure(&mut self, size: usize, others: &[Rc<Deployment>]) -> bool {
        match deploy(size, others) {
            Ok(deployment) => {
                self.deployment = Some(Rc::new(deployment));
                true
            }
            Err(messages) => {
                for message in messages {
                    host::log(Level::Error, &message);
                }
                false
            }
        }
    }

    /// The policy at work.
    pub(crate) fn deployment(&self) -> Option<Rc<Deployment>> {
        self.deployment.clone()
    }

    /// A new exchange under this root's policy; none where it has no policy.
    pub(crate) fn exchange(&self, id: u32) -> Option<Exchange> {
        self.deployment.clone().map(|deployment| Exchange::new(id, deployment))
    }

    /// Takes the answer of a callout. Returns what an exchange goes on with.
    pub(crate) fn call_answered(&mut self, token: u32, header_count: u32) -> Option<Awaited> {
        let deployment = self.deployment.as_ref()?;
        let now = host::now();
        if let Some(fleet) = &deployment.fleet
            && let Some(settled) = fleet.answered(token, header_count, |subject| deployment.table.fingerprint(subject))
        {
            let awaited = match settled {
                Settled::Question(answered) => Some(Awaited::Question(answered)),
                Settled::Errand(Errand::State(asks), outcome) => deployment
                    .state_answered(asks, outcome, now)
                    .map(|(exchange, answer)| Awaited::State { exchange, answer }),
                Settled::Errand(Errand::Job(step), outcome) => deployment
                    .jobs
                    .step_answered(fleet, *step, outcome)
                    .map(|(exchange, told)| Awaited::Job { exchange, told }),
                Settled::Nothing => None,
            };
            deployment.keep_ticking(now, false);
            return awaited;
        }
        let alerts = deployment.alerts.as_ref();
        let fleet = deployment.fleet.as_ref();
        if fleet.is_some_and(|fleet| deployment.jobs.stored_answered(fleet, token, header_count))
            || deployment.jobs.answered(token, header_count, host::steady())
            || alerts.is_some_and(|alerts| alerts.answered(token, header_count))
        {
            deployment.keep_ticking(now, false);
        }
        None
    }

    /// Takes an answer that the exchange which asked is not there for.
    pub(crate) fn give_back(&self, awaited: Awaited) {
        let Some(deployment) = &self.deployment else { return };
        let Some(fleet) = &deployment.fleet else { return };
        match awaited {
            Awaited::Question(answered) => fleet.give_back_answer(answered),
            Awaited::Job { told: Told::Stored(ticket), .. } => deployment.jobs.take_back(fleet, &ticket),
            Awaited::Job { .. } | Awaited::State { .. } => {}
        }
    }

    /// Has due jobs tried. Returns the exchanges whose moment has come, with how late it is.
    pub(crate) fn tick(&mut self) -> Vec<(u32, Micros)> {
        let Some(deployment) = &self.deployment else { return Vec::new() };
        let now = host::now();
        deployment.held.tick();
        let due = deployment.waiting.borrow_mut().release(host::steady());
        deployment.jobs.tick(host::steady());
        deployment.operate(now);
        if let Some(fleet) = &deployment.fleet {
            fleet.tick(host::steady());
            deployment.jobs.tick_stored(fleet, host::steady());
        }
        if let Some(violations) = &deployment.violations {
            violations.borrow_mut().write();
        }
        deployment.watch(now);
        deployment.keep_ticking(now, true);
        due
    }
}

impl Deployment {
    /// The engine that decides now.
    pub(crate) fn engine(&self) -> Engine {
        self.engine.borrow().clone()
    }

    /// Has another engine decide from the next request on.
    pub(crate) fn replace_engine(&self, engine: Engine) {
        self.counters.adopt(engine.policy());
        *self.engine.borrow_mut() = engine;
    }

    /// Sets the host's timer for who is due next; `ticked` where it just fired.
    pub(crate) fn keep_ticking(&self, now: Timestamp, ticked: bool) {
        let steady = host::steady();
        // All wait on the clock that never steps but grants, which end at a moment that was promised.
        let due = [
            self.operated.as_ref().and_then(Operated::next_due).map(|due| steady + due.since(now)),
            self.violations.as_ref().and_then(|it| it.borrow().next_due()),
            self.waiting.borrow().next_due(),
            self.alerts.as_ref().and_then(Alerts::next_due),
            self.held.next_due(),
            self.fleet.as_ref().and_then(Fleet::next_due),
            self.operated.as_ref().and_then(Operated::next_look),
            self.jobs.next_due(),
            self.jobs.next_stored(),
        ];
        self.timer.set(due.into_iter().flatten().min(), steady, ticked);
    }
}

fn deploy(size: usize, others: &[Rc<Deployment>]) -> Result<Deployment, Vec<String>> {
    let text = host::buffer(Buffer::PluginConfiguration, size).unwrap_or_default();
    if text.is_empty() {
        return Err(vec![
            "policy refused: the plugin configuration is empty; give the policy as JSON in a google.protobuf.StringValue"
                .to_owned(),
        ]);
    }
    let policy = Policy::parse(&text, &crate::catalogue()).map_err(|mistakes| refusal(&text, &mistakes))?;
    for warning in &policy.warnings {
        host::log(Level::Warn, &format!("policy warning: {}: {}", warning.pointer, warning.message));
    }
    let max_keys = policy.store.max_keys();
    let timer = Rc::<Timer>::default();
    let mut fleet = match &policy.store {
        Store::Local { .. } => None,
        Store::Redis(settings) => Some(Fleet::new(settings.clone(), &policy.namespace, Rc::clone(&timer))),
    };
    let namespace = policy.namespace.clone();
    let rules = policy.rules.len();
    let name = |which| host::property([which]).unwrap_or_default();
    let (plugin, root) = (name("plugin_name"), name("plugin_root_id"));
    let names = [plugin.as_slice(), root.as_slice(), namespace.as_bytes()];
    // Another vm_id has shared data of its own, but the same metrics.
    let counters = Counters::define(&policy, hash_of(&[&hash_of(&names), &name("plugin_vm_id")]));
    let engine = Engine::new(policy);
    let table = SharedTable::open(hash_of(&names), &engine, max_keys, &counters).map_err(|error| vec![error])?;
    for before in others.iter().filter(|other| other.table.prefix() == table.prefix()) {
        if let (Some(fleet), Some(before)) = (&mut fleet, &before.fleet) {
            fleet.follow(before);
        }
    }
    host::log(Level::Info, &format!("policy accepted: namespace {namespace}, {rules} rules, {max_keys} keys"));
    let held = Held::open(table.prefix(), &counters);
    let jobs = Jobs::open(table.prefix(), engine.policy(), &counters);
    let operated = Operated::open(table.prefix(), &text, engine.policy(), &counters);
    let violations = Violations::open(table.prefix(), engine.policy());
    let alerts = Alerts::open(table.prefix(), &text, engine.policy(), &counters);
    let deployment = Deployment {
        engine: RefCell::new(engine),
        operated,
        violations,
        alerts,
        table,
        fleet,
        counters,
        waiting: RefCell::default(),
        held,
        jobs,
        bodies_are_hidden: Cell::new(false),
        timer,
    };
    let now = host::now();
    deployment.refresh(now);
    deployment.keep_ticking(now, false);
    Ok(deployment)
}

/// The lines that tell an operator why a policy is refused.
fn refusal(text: &[u8], mistakes: &Mistakes) -> Vec<String> {
    let mut lines: Vec<String> =
        mistakes.to_string().lines().map(|mistake| format!("policy refused: {mistake}")).collect();
    // A protobuf message starts with a field tag, never with what JSON starts with.
    if !text.trim_ascii_start().starts_with(b"{") {
        lines.push(
            "policy refused: the configuration is no JSON object; hosts pass a google.protobuf.Struct as raw protobuf, \
             so give the policy as JSON in a google.protobuf.StringValue"
                .to_owned(),
        );
    }
    lines
}
