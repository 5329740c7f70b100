//! Alerts in the host: one VM at a time evaluates them, by a turn in shared data that it renews with each evaluation and
//! that another takes over when it ends. What is measured and when it is told is the engine's `alert`.
//!
//! Every VM ticks while the policy has alerts: the one whose turn it is once a second, the others when the turn would end.

use core::cell::{Cell, RefCell};

use tidegate_engine::admin::hex;
use tidegate_engine::alert::kept::{Kept, LEASE, Watcher};
use tidegate_engine::alert::meter::{Measure, Meter, Totals};
use tidegate_engine::alert::notice::{Fate, TIMEOUT_MS};
use tidegate_engine::alert::{Event, Moment, Phase, State};
use tidegate_engine::policy::{Alert, Condition, Node, Policy, Webhook};
use tidegate_engine::sorted::Sorted;
use tidegate_engine::topk;
use tidegate_engine::{Micros, Timestamp};

use crate::counters::Counters;
use crate::host::{self, IF_ABSENT, Level, Map, Metric, MetricKind, Status, define_metric};
use crate::root::Deployment;

/// How often alerts are evaluated.
const EVERY: Micros = Micros::from_secs(1);

/// All alerts of a deployment.
#[derive(Debug)]
pub(crate) struct Alerts {
    key: Vec<u8>,
    me: Watcher,
    /// 1 while an alert fires, in the policy's order.
    firing: Vec<Metric>,
    /// What the names of these gauges begin with.
    gauges: String,
    sent: Metric,
    failed: Metric,
    /// What this VM has seen while it was its turn.
    meters: RefCell<Vec<Meter>>,
    /// When this VM looks next, on the steady clock; `None` where there is nothing to look at any more.
    next_look: Cell<Option<Timestamp>>,
    /// The notices under way, by the host's token: the alert and what was sent.
    calls: RefCell<Sorted<u32, (String, String)>>,
    /// What came of notices, not written down yet.
    answers: RefCell<Vec<Answer>>,
}

/// What came of a notice: the alert, what was sent, and whether its receiver took it.
type Answer = (String, String, bool);

impl Alerts {
    /// Opens the alerts of the deployment whose keys start with `prefix`; `None` where there are none, nor were any.
    pub(crate) fn open(prefix: [u8; 8], file: &[u8], policy: &Policy, counters: &Counters) -> Option<Self> {
        let mut key = prefix.to_vec();
        key.push(b'W');
        if policy.alerts.is_empty() && host::shared(&key) == Err(Status::NOT_FOUND) {
            return None;
        }
        let mut random = [0; 8];
        let _ = getrandom::fill(&mut random);
        let now = host::steady();
        let gauges = counters.name("alert_firing.");
        Some(Self {
            key,
            me: Watcher {
                id: hex(&random),
                policy: hex(&topk::group_of(&String::from_utf8_lossy(file)).to_be_bytes()),
                configured_at: now,
            },
            firing: policy.alerts.iter().map(|alert| gauge(&gauges, &alert.name)).collect(),
            gauges,
            sent: counters.metric(MetricKind::Counter, "alerts_sent_total"),
            failed: counters.metric(MetricKind::Counter, "alerts_failed_total"),
            meters: RefCell::default(),
            next_look: Cell::new(Some(now)),
            calls: RefCell::default(),
            answers: RefCell::default(),
        })
    }

    /// When there is something to do next, on the steady clock.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.next_look.get()
    }

    /// Takes the answer of a notice; `false` where the token is none of ours. A reset answers without headers.
    pub(crate) fn answered(&self, token: u32, header_count: u32) -> bool {
        let Some((alert, body)) = self.calls.borrow_mut().remove(&token) else { return false };
        let is_taken = header_count > 0
            && host::header(Map::CallResponseHeaders, ":status").is_ok_and(|status| status.starts_with(b"2"));
        self.answers.borrow_mut().push((alert, body, is_taken));
        self.next_look.set(Some(host::steady()));
        true
    }

    fn read(&self) -> Result<(Kept, u32), Status> {
        match host::shared(&self.key) {
            Ok((bytes, cas)) => Ok((Kept::read(&bytes), cas)),
            Err(Status::NOT_FOUND) => Ok((Kept::default(), IF_ABSENT)),
            Err(status) => Err(status),
        }
    }

    /// Does what was decided, now that it is written down; `states` where it was this VM's turn.
    fn act(&self, outcome: Outcome<'_>, policy: &Policy, states: Option<&[State]>) {
        for (metric, count) in [(self.sent, outcome.sent), (self.failed, outcome.failed)] {
            if count > 0 {
                metric.add(count);
            }
        }
        let Some(states) = states else { return };
        for name in outcome.gone {
            gauge(&self.gauges, &name).set(0);
        }
        for (metric, state) in self.firing.iter().zip(states) {
            metric.set(u64::from(state.phase == Phase::Firing));
        }
        for (event, line) in outcome.told {
            host::log(if event == Event::Firing { Level::Warn } else { Level::Info }, &line);
        }
        for (alert, webhook, body) in outcome.due {
            self.send(&alert.name, webhook, body);
        }
        if policy.alerts.is_empty() {
            self.next_look.set(None);
        }
    }

    /// Sends a notice. What the host cannot send now is a try as well.
    fn send(&self, alert: &str, webhook: &Webhook, body: String) {
        let mut headers = vec![
            (":method", b"POST".to_vec()),
            (":path", webhook.path.clone().into_bytes()),
            (":authority", webhook.authority.clone().into_bytes()),
            ("content-type", b"application/json".to_vec()),
        ];
        if let Some(token) = &webhook.token {
            headers.push(("authorization", [b"Bearer ", token.reveal().as_bytes()].concat()));
        }
        match host::http_call(&webhook.cluster, &headers, body.as_bytes(), TIMEOUT_MS) {
            Ok(token) => self.calls.borrow_mut().insert(token, (alert.to_owned(), body)),
            Err(status) => {
                if status == Status::BAD_ARGUMENT {
                    host::log(Level::Error, &["alert ", alert, ": no cluster ", &webhook.cluster].concat());
                }
                self.answers.borrow_mut().push((alert.to_owned(), body, false));
            }
        }
    }
}

impl Deployment {
    /// Evaluates the alerts, if that is due and this VM's turn.
    pub(crate) fn watch(&self, wall: Timestamp) {
        let Some(alerts) = &self.alerts else { return };
        let now = Moment { steady: host::steady(), wall };
        if alerts.next_look.get().is_none_or(|at| at > now.steady) {
            return;
        }
        alerts.next_look.set(Some(now.steady + EVERY));
        let Ok((mut kept, cas)) = alerts.read() else { return };
        let engine = self.engine();
        let policy = engine.policy();
        let is_turn = kept.is_turn_of(&alerts.me, now.steady);
        let answers = alerts.answers.take();
        if !is_turn {
            // Whoever comes next measures anew.
            alerts.meters.take();
            if answers.is_empty() {
                let turn_ends = kept.until.min(now.steady + LEASE).max(now.steady + EVERY);
                return alerts.next_look.set((!policy.alerts.is_empty()).then_some(turn_ends));
            }
        }
        let mut outcome = Outcome::default();
        outcome.note_answers(&answers, &mut kept, now);
        if is_turn {
            outcome.gone = kept.take_turn(&alerts.me, policy, now.steady);
            outcome.told = self.evaluate(alerts, policy, &mut kept.states, now);
            outcome.take_due(policy, &mut kept, now);
        }
        if host::set_shared(&alerts.key, &kept.bytes(), cas).is_err() {
            // Somebody was faster: nothing of this was done.
            return alerts.answers.borrow_mut().extend(answers);
        }
        alerts.act(outcome, policy, is_turn.then_some(kept.states.as_slice()));
    }

    /// Has every alert measured, and returns the lines that are told.
    fn evaluate(&self, alerts: &Alerts, policy: &Policy, states: &mut [State], now: Moment) -> Vec<(Event, String)> {
        let mut meters = alerts.meters.borrow_mut();
        meters.resize_with(policy.alerts.len(), Meter::default);
        let mut merged = None;
        let mut told = Vec::new();
        for ((alert, state), meter) in policy.alerts.iter().zip(states).zip(meters.iter_mut()) {
            let totals = self.counters.totals(alert.rule);
            let rule = alert.rule.and_then(|rule| policy.rules.get(rule)).map(|rule| rule.name.as_str());
            let violations = self.violations.as_ref().filter(|_| wants_offenders(alert, meter, &totals));
            if let (None, Some(violations)) = (&merged, violations) {
                merged = Some(violations.borrow().merged(&self.baselines()));
            }
            let offenders = merged.as_ref().filter(|_| violations.is_some()).map(|merged| merged.offenders(rule));
            let measure: Option<Measure> = meter.measure(alert.when, now.steady, totals, offenders);
            let Some((event, measure)) = state.step(alert, measure.as_ref(), now).zip(measure) else { continue };
            let line = state.told(alert, rule, &policy.namespace, (event, &measure), now);
            if alert.webhook.is_some() {
                state.send(line.clone(), now);
            }
            told.push((event, line));
        }
        told
    }

    /// The alerts as the admin API shows them.
    pub(crate) fn shown_alerts(&self) -> Node {
        let kept = self.alerts.as_ref().and_then(|alerts| alerts.read().ok());
        kept.map(|(kept, _)| kept).unwrap_or_default().shown(self.engine().policy())
    }
}

/// What one look at the alerts decides.
#[derive(Default)]
struct Outcome<'p> {
    /// Notices that were taken, and those that were given up.
    sent: i64,
    failed: i64,
    /// Alerts that the policy does not have any more.
    gone: Vec<String>,
    /// What is told.
    told: Vec<(Event, String)>,
    /// What is sent now.
    due: Vec<(&'p Alert, &'p Webhook, String)>,
}

impl<'p> Outcome<'p> {
    /// Notes in `kept` what came of notices.
    fn note_answers(&mut self, answers: &[Answer], kept: &mut Kept, now: Moment) {
        for (alert, body, is_taken) in answers {
            let state = kept.states.iter_mut().find(|state| state.name == *alert);
            match state.and_then(|state| state.answered(body, *is_taken, now)) {
                Some(Fate::Taken) => self.sent = self.sent.saturating_add(1),
                Some(Fate::GivenUp) => self.failed = self.failed.saturating_add(1),
                Some(Fate::Waits) | None => {}
            }
        }
    }

    /// Takes what is to be sent now.
    fn take_due(&mut self, policy: &'p Policy, kept: &mut Kept, now: Moment) {
        for (alert, state) in policy.alerts.iter().zip(&mut kept.states) {
            let Some(webhook) = &alert.webhook else {
                state.send_nothing();
                continue;
            };
            if state.give_up_lost(now) {
                self.failed = self.failed.saturating_add(1);
            }
            self.due.extend(state.take_due(now).map(|body| (alert, webhook, body.to_owned())));
        }
    }
}

fn wants_offenders(alert: &Alert, meter: &Meter, totals: &Totals) -> bool {
    matches!(alert.when, Condition::TopViolatorShareAbove(_)) && meter.needs_offenders(totals)
}

fn gauge(names: &str, alert: &str) -> Metric {
    define_metric(MetricKind::Gauge, &[names, alert].concat())
}
