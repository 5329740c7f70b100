//! What each call does.

use tidegate_engine::admin::call::{Call, Place};
use tidegate_engine::admin::explain::{self, Look};
use tidegate_engine::admin::grant::{self, Giving, Grant};
use tidegate_engine::admin::runtime::Runtime;
use tidegate_engine::admin::{answer, number, numbers, object, overlay, text};
use tidegate_engine::policy::{Mistakes, Node};
use tidegate_engine::table::ENTRY_BYTES;
use tidegate_engine::{Response, Timestamp};

use super::Operated;
use super::state::{Draft, refused};
use crate::fleet::Fleet;
use crate::host;
use crate::root::Deployment;

/// What this version's admin API can do.
const CAPABILITIES: [&str; 8] =
    ["alerts", "audit", "counters", "explain", "metrics", "overrides", "rules", "violations"];

impl Deployment {
    /// Carries a call out that changes nothing, or only this proxy.
    pub(crate) fn call(&self, caller: &str, call: &Call, body: &[u8], now: Timestamp) -> Response {
        let Some(operated) = &self.operated else { return answer::unauthorized() };
        self.refresh(now);
        let answer = match call {
            Call::Status => Ok(answer::json(200, &self.status(operated))),
            Call::Rules => Self::rules(operated),
            Call::Rule(name) => Self::rule(operated, name),
            Call::Overrides => Ok(overrides(operated.runtime.borrow().grants.iter(), None, now)),
            Call::CheckOverrides { user_id, ip_address } => {
                self.check(operated, user_id.as_deref(), ip_address.as_deref(), now)
            }
            Call::Metrics(rule) => Ok(self.metrics(&operated.runtime.borrow(), rule.as_deref())),
            Call::Counter(place) => self.look(&self.engine().counter(place, now)),
            Call::Explain => self.look(&self.engine().explain(body, &crate::catalogue(), now)),
            Call::Audit { after } => Ok(audit(operated, *after)),
            _ => {
                let changed = operated.change(&|runtime| self.draft(operated, runtime, caller, call, body, now));
                self.refresh(now);
                changed.and_then(|response| self.made(operated, call, response, now))
            }
        };
        answer.unwrap_or_else(|refusal| refusal)
    }

    /// The answer to a call whose change is in force; a counter is cleared then.
    fn made(&self, operated: &Operated, call: &Call, response: Response, now: Timestamp) -> Result<Response, Response> {
        match call {
            Call::ClearCounter(place) => self.clear(place, now),
            Call::Reset(rule) => Ok(self.metrics(&operated.runtime.borrow(), Some(rule))),
            _ => Ok(response),
        }
    }

    /// Takes over a state that the fleet's store has taken from a call; its answer.
    pub(crate) fn adopt(&self, (next, response): Draft, call: &Call, now: Timestamp) -> Response {
        let Some(operated) = &self.operated else { return answer::unauthorized() };
        operated.adopt(&next);
        self.refresh(now);
        self.made(operated, call, response, now).unwrap_or_else(|refusal| refusal)
    }

    /// What a call that changes something makes of the state that is in shared data, whose rules it may name.
    pub(super) fn draft(
        &self,
        operated: &Operated,
        mut runtime: Runtime,
        caller: &str,
        call: &Call,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Draft, Response> {
        self.refresh(host::now());
        runtime.expire(now);
        let by = Author { operated, caller, now };
        let response = match call {
            Call::PutRule(name) => put_rule(&by, &mut runtime, name, body)?,
            Call::RemoveRule(name) => remove_rule(&by, &mut runtime, name)?,
            Call::Grant => self.give(&by, &mut runtime, body)?,
            Call::Revoke(id) => revoke(&by, &mut runtime, id)?,
            Call::Reset(rule) => self.reset(&by, &mut runtime, rule)?,
            Call::ClearCounter(place) => self.note_clearing(&by, &mut runtime, place)?,
            // The others change nothing.
            _ => answer::nothing(),
        };
        Ok((runtime, response))
    }

    fn document(operated: &Operated) -> Result<Node, Response> {
        let runtime = operated.runtime.borrow();
        let rules = if operated.misfit.borrow().is_empty() { runtime.rules.as_slice() } else { &[] };
        overlay::laid_over(&operated.file, rules).map_err(|mistakes| does_not_fit(&mistakes))
    }

    fn rules(operated: &Operated) -> Result<Response, Response> {
        let document = Self::document(operated)?;
        let runtime = operated.runtime.borrow();
        let rules = document.get("rules").map(Node::entries).unwrap_or_default().iter();
        let shown = rules.map(|rule| overlay::shown(rule, runtime.has_rule(rule.word("name").unwrap_or_default())));
        let body = object(&mut [("generation", number(runtime.generation)), ("rules", Node::List(shown.collect()))]);
        Ok(answer::json(200, &body))
    }

    fn rule(operated: &Operated, name: &str) -> Result<Response, Response> {
        let document = Self::document(operated)?;
        let rules = document.get("rules").map(Node::entries).unwrap_or_default();
        let rule = rules.iter().find(|rule| rule.word("name") == Some(name)).ok_or_else(no_rule)?;
        Ok(answer::json(200, &overlay::shown(rule, operated.runtime.borrow().has_rule(name))))
    }

    fn give(&self, by: &Author<'_>, runtime: &mut Runtime, body: &[u8]) -> Result<Response, Response> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| answer::problem(503, "The host gives no random bytes."))?;
        let engine = self.engine();
        let giving = Giving { admin: by.caller, random, now: by.now };
        let grant = Grant::read(body, engine.policy(), &crate::catalogue(), giving)
            .map_err(|mistakes| answer::mistakes(422, "The override does not fit.", &mistakes))?;
        runtime.give(grant.clone()).map_err(refused)?;
        by.note(runtime, "override_given", grant.shown(by.now));
        let mut response = answer::json(201, &grant.shown(by.now));
        let path = format!("{}/v1/overrides/{}", engine.policy().admin_api.path, grant.id);
        response.headers.push(("location".into(), path));
        Ok(response)
    }

    fn reset(&self, by: &Author<'_>, runtime: &mut Runtime, rule: &str) -> Result<Response, Response> {
        runtime.reset(self.baseline(rule, by.now).ok_or_else(no_rule)?);
        by.note(runtime, "metrics_reset", object(&mut [("rule", text(rule))]));
        Ok(answer::nothing())
    }

    /// It is noted before it is done: nothing is cleared that the audit log does not know.
    fn note_clearing(&self, by: &Author<'_>, runtime: &mut Runtime, place: &Place) -> Result<Response, Response> {
        let look = self.engine().counter(place, by.now).map_err(|mistakes| does_not_fit(&mistakes))?;
        let key = look.acquire.subjects.first().map_or(Node::Null, explain::key);
        by.note(runtime, "counter_cleared", object(&mut [("rule", text(&place.rule)), ("key", key)]));
        Ok(answer::nothing())
    }

    fn check(
        &self,
        operated: &Operated,
        user: Option<&str>,
        address: Option<&str>,
        now: Timestamp,
    ) -> Result<Response, Response> {
        let engine = self.engine();
        let runtime = operated.runtime.borrow();
        let fitting = grant::check(&runtime.grants, user, address, now)
            .and_then(|fitting| grant::address_of(address).map(|address| (fitting, address)));
        let (fitting, address) = fitting.map_err(|mistakes| does_not_fit(&mistakes))?;
        Ok(overrides(fitting.into_iter(), Some(engine.is_admin(user, address)), now))
    }

    fn look(&self, look: &Result<Look, Mistakes>) -> Result<Response, Response> {
        let look = look.as_ref().map_err(does_not_fit)?;
        Ok(answer::json(200, &self.looked(look)?))
    }

    fn looked(&self, look: &Look) -> Result<Node, Response> {
        let reply = self.table.acquire(&self.engine(), &look.acquire, &self.counters);
        let reply = reply.map_err(|_| answer::problem(503, "The host's shared data fails."))?;
        Ok(look.shown(&reply))
    }

    /// Clears this proxy's own cell.
    fn clear(&self, place: &Place, now: Timestamp) -> Result<Response, Response> {
        let engine = self.engine();
        let look = engine.counter(place, now).map_err(|mistakes| does_not_fit(&mistakes))?;
        if self.table.clear(&engine, &look.acquire, &self.counters) {
            Ok(answer::nothing())
        } else {
            Err(answer::problem(503, "The counter changed under every try."))
        }
    }

    /// What a call asks the fleet's store for; `None` where it needs none, or does not fit.
    pub(crate) fn look_of(&self, call: &Call, body: &[u8], now: Timestamp) -> Option<Look> {
        self.refresh(now);
        match call {
            Call::Counter(place) | Call::ClearCounter(place) => self.engine().counter(place, now).ok(),
            Call::Explain => self.engine().explain(body, &crate::catalogue(), now).ok(),
            _ => None,
        }
        .filter(|look| !look.acquire.cells.is_empty())
    }

    fn status(&self, operated: &Operated) -> Node {
        let engine = self.engine();
        let runtime = operated.runtime.borrow();
        let words = |words: Vec<&str>| Node::List(words.into_iter().map(text).collect());
        let misfit = operated.misfit.borrow();
        let rules = runtime.rules.iter().filter_map(|rule| rule.word("name")).collect();
        let capacity = self.counters.table_capacity_bytes.value();
        let mut state = vec![
            ("rules".to_owned(), words(rules)),
            ("wins".to_owned(), text("runtime")),
            ("applied".to_owned(), Node::Boolean(misfit.is_empty())),
            ("misfit".to_owned(), words(misfit.iter().map(String::as_str).collect())),
            ("overrides".to_owned(), number(runtime.grants.len().try_into().unwrap_or(u64::MAX))),
        ];
        state.extend(operated.is_in_step().map(|is_in_step| ("in_step".to_owned(), Node::Boolean(is_in_step))));
        object(&mut [
            ("version", text(env!("CARGO_PKG_VERSION"))),
            (
                "policy",
                object(&mut [
                    ("sha256", text(&operated.file_sha256)),
                    ("namespace", text(&engine.policy().namespace)),
                    ("rules", number(engine.policy().rules.len().try_into().unwrap_or(u64::MAX))),
                ]),
            ),
            ("generation", number(runtime.generation)),
            ("runtime", Node::Object(state)),
            (
                "store",
                object(&mut [
                    ("type", text(if self.fleet.is_some() { "redis" } else { "local" })),
                    ("healthy", Node::Boolean(self.fleet.as_ref().is_none_or(Fleet::is_healthy))),
                    ("survives_restart", Node::Boolean(self.fleet.is_some())),
                ]),
            ),
            ("workers", number(operated.workers.value())),
            (
                "table",
                Node::Object(numbers(&[
                    ("keys", self.counters.table_keys.value()),
                    ("capacity_keys", capacity.checked_div(ENTRY_BYTES as u64).unwrap_or(0)),
                    ("bytes", self.counters.table_bytes.value()),
                    ("given_up_limiting", self.counters.given_up_limiting()),
                ])),
            ),
            ("waiting", number(self.counters.waiting.value())),
            ("queue", object(&mut [("waiting", Node::Object(self.jobs.waiting_by_rule()))])),
            ("alerts", self.shown_alerts()),
            ("audit", runtime.trail.head()),
            ("capabilities", words(CAPABILITIES.to_vec())),
        ])
    }
}

/// Who changes something, and when.
struct Author<'a> {
    operated: &'a Operated,
    caller: &'a str,
    now: Timestamp,
}

impl Author<'_> {
    fn note(&self, runtime: &mut Runtime, action: &str, detail: Node) {
        runtime.done(self.now, self.caller, action, detail);
    }
}

fn put_rule(by: &Author<'_>, runtime: &mut Runtime, name: &str, body: &[u8]) -> Result<Response, Response> {
    let rule = overlay::rule(name, body, &by.operated.file, &runtime.rules, &crate::catalogue())
        .map_err(|mistakes| does_not_fit(&mistakes))?;
    let shown = overlay::shown(&rule, true);
    runtime.put_rule(rule.clone()).map_err(refused)?;
    by.note(runtime, "rule_put", object(&mut [("rule", text(name)), ("content", rule)]));
    let body = object(&mut [("generation", number(runtime.generation)), ("rule", shown)]);
    Ok(answer::json(200, &body))
}

fn remove_rule(by: &Author<'_>, runtime: &mut Runtime, name: &str) -> Result<Response, Response> {
    let file = &by.operated.file;
    let is_of_file = || {
        let document = overlay::laid_over(file, &[]).ok();
        let rules = document.as_ref().and_then(|document| document.get("rules")).map(Node::entries);
        rules.unwrap_or_default().iter().any(|rule| rule.word("name") == Some(name))
    };
    if !runtime.has_rule(name) && is_of_file() {
        let why = "This rule is the policy file's: put it with \"enabled\": false, or use a kill switch.";
        return Err(answer::problem(409, why));
    }
    runtime.remove_rule(name).map_err(refused)?;
    // What does not fit the file now need not fit without this rule either.
    if by.operated.misfit.borrow().is_empty() {
        overlay::compiled(file, &runtime.rules, &crate::catalogue())
            .map_err(|mistakes| answer::mistakes(409, "Without this rule the others do not fit.", &mistakes))?;
    }
    by.note(runtime, "rule_removed", object(&mut [("rule", text(name))]));
    Ok(answer::nothing())
}

fn revoke(by: &Author<'_>, runtime: &mut Runtime, id: &str) -> Result<Response, Response> {
    runtime.revoke(id, by.now).map_err(refused)?;
    by.note(runtime, "override_revoked", object(&mut [("override_id", text(id))]));
    Ok(answer::nothing())
}

fn overrides<'g>(grants: impl Iterator<Item = &'g Grant>, is_admin: Option<bool>, now: Timestamp) -> Response {
    let shown = grants.filter(|grant| grant.is_in_force(now)).map(|grant| grant.shown(now)).collect();
    let mut members = vec![("overrides".to_owned(), Node::List(shown))];
    members.extend(is_admin.map(|is_admin| ("is_admin".to_owned(), Node::Boolean(is_admin))));
    answer::json(200, &Node::Object(members))
}

fn audit(operated: &Operated, after: u64) -> Response {
    let mut shown = operated.runtime.borrow().trail.shown(after);
    if let Node::Object(members) = &mut shown {
        members.push(("failed_logins".to_owned(), operated.shown_logins()));
    }
    answer::json(200, &shown)
}

fn does_not_fit(mistakes: &Mistakes) -> Response {
    answer::mistakes(422, "What was sent does not fit.", mistakes)
}

fn no_rule() -> Response {
    answer::problem(404, "There is no such rule.")
}
