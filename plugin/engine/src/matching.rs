//! Which rules a request meets, and whom each counts it for.
//! A limit applies if either reading of the path matches; what loosens (`replaces`) needs both.

use crate::admin::granted::Applying;
use crate::identity::{Identity, Kind, Subject};
use crate::path::Readings;
use crate::policy::{Admins, Anonymous, IdentitySettings, Policy, Rule, Scope};
use crate::request::Request;
use crate::template::Template;

/// A rule that applies to a request.
#[derive(Debug)]
pub(crate) struct Match {
    /// The rule's index in the policy.
    pub(crate) rule: usize,
    /// Whom the rule counts the request for.
    pub(crate) subject: Subject,
}

/// The first condition of a rule that a request does not meet, in the order they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The rule is not enabled.
    Disabled,
    /// The method is none of the rule's.
    Method,
    /// The request has no verified user that is one of the rule's.
    UserId,
    /// The address is in none of the rule's ranges.
    Address,
    /// Neither reading of the path fits one of the rule's endpoints.
    Endpoint,
    /// The rule counts by user, the request has none, and the policy skips such requests.
    NoUser,
    /// All conditions are met, and the rule of this index replaces this one.
    ReplacedBy(usize),
}

/// What matching prepares once for a policy.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// Each rule's templates, as they compare under the policy's `paths`.
    templates: Vec<Vec<Template>>,
    /// The rules that replace others, each after all that replace it.
    replacers: Vec<usize>,
}

/// How well a rule's endpoints fit a request's path.
#[derive(Clone, Copy)]
struct Fit<'p> {
    /// The first template that the normalised path matches, and the first that the path as sent matches where that is
    /// another one: `/static/..%2fapi/search` counts for `/static/*` and for `/api/search`, whichever the upstream
    /// serves. Both empty where the rule names no endpoints.
    templates: [Option<&'p Template>; 2],
    /// Both readings match, and no `#` leaves open where the path leads.
    surely: bool,
}

impl Matcher {
    /// Prepares a policy's rules.
    pub(crate) fn new(policy: &Policy) -> Self {
        let prepare = |template: &Template| {
            if policy.paths_are_loose { template.to_loose() } else { template.clone() }
        };
        let templates = policy.rules.iter().map(|rule| rule.endpoints.iter().map(prepare).collect()).collect();
        Self { templates, replacers: in_order(policy) }
    }

    /// The rules that apply, in the policy's order.
    pub(crate) fn matches(
        &self,
        policy: &Policy,
        request: &Request<'_>,
        identity: &Identity,
        granted: &Applying<'_>,
    ) -> Vec<Match> {
        self.examine(policy, request, identity, granted, |_, _| ())
    }

    /// The rules that apply, in the policy's order; `why_not` is told of each other rule what keeps it off.
    pub(crate) fn examine(
        &self,
        policy: &Policy,
        request: &Request<'_>,
        identity: &Identity,
        granted: &Applying<'_>,
        mut why_not: impl FnMut(usize, Obstacle),
    ) -> Vec<Match> {
        let path = Readings::of(request.path(), policy.paths_are_loose);
        let seen = Seen { method: request.method(), path: &path, identity, settings: &policy.identity };
        let mut found: Vec<(Match, bool)> = Vec::new();
        for (index, (rule, templates)) in policy.rules.iter().zip(&self.templates).enumerate() {
            let (fit, first) = match seen.meets(rule, templates) {
                Ok(met) => met,
                Err(obstacle) => {
                    why_not(index, obstacle);
                    continue;
                }
            };
            found.push((Match { rule: index, subject: first }, fit.surely));
            if let ([_, Some(other)], Scope::PerEndpoint) = (fit.templates, rule.scope) {
                found.push((Match { rule: index, subject: template_subject(other) }, fit.surely));
            }
        }
        if !self.replacers.is_empty() {
            self.replace(policy, &mut found, granted, why_not);
        }
        found.into_iter().map(|(found, _)| found).collect()
    }

    /// Takes out what other rules replace. A rule in shadow, killed, or itself replaced, replaces nothing.
    fn replace(
        &self,
        policy: &Policy,
        found: &mut Vec<(Match, bool)>,
        granted: &Applying<'_>,
        mut why_not: impl FnMut(usize, Obstacle),
    ) {
        for replacer in &self.replacers {
            let Some(rule) = policy.rules.get(*replacer) else { continue };
            let acts = !rule.shadow && !granted.kill(*replacer);
            let applies = acts && found.iter().any(|(found, surely)| found.rule == *replacer && *surely);
            if applies {
                found.retain(|(found, _)| {
                    let is_replaced = rule.replaces.contains(&found.rule);
                    if is_replaced {
                        why_not(found.rule, Obstacle::ReplacedBy(*replacer));
                    }
                    !is_replaced
                });
            }
        }
    }
}

/// What conditions look at.
struct Seen<'a> {
    method: &'a [u8],
    path: &'a Readings<'a>,
    identity: &'a Identity,
    settings: &'a IdentitySettings,
}

impl Seen<'_> {
    /// How the endpoints of a rule whose conditions are all met fit, and whom it counts the request for first.
    fn meets<'p>(&self, rule: &Rule, templates: &'p [Template]) -> Result<(Fit<'p>, Subject), Obstacle> {
        if !rule.enabled {
            return Err(Obstacle::Disabled);
        }
        if !method_fits(rule, self.method) {
            return Err(Obstacle::Method);
        }
        if !user_fits(rule, self.identity) {
            return Err(Obstacle::UserId);
        }
        if !address_fits(rule, self.identity) {
            return Err(Obstacle::Address);
        }
        let fit = endpoints_fit(templates, self.path).ok_or(Obstacle::Endpoint)?;
        let first = subject(rule, fit.templates[0], self).ok_or(Obstacle::NoUser)?;
        Ok((fit, first))
    }
}

/// The rules that replace others, ordered so that each comes after all rules that replace it (Kahn 1962). The policy's
/// own check refuses cycles; a rule in one would be left out.
fn in_order(policy: &Policy) -> Vec<usize> {
    let mut left: Vec<usize> =
        policy.rules.iter().enumerate().filter(|(_, rule)| !rule.replaces.is_empty()).map(|(index, _)| index).collect();
    let mut ordered = Vec::with_capacity(left.len());
    loop {
        let is_replaced = |rule: &usize| {
            left.iter().any(|other| policy.rules.get(*other).is_some_and(|other| other.replaces.contains(rule)))
        };
        let (ready, waiting): (Vec<usize>, Vec<usize>) = left.iter().partition(|rule| !is_replaced(rule));
        if ready.is_empty() {
            return ordered;
        }
        ordered.extend(ready);
        left = waiting;
    }
}

fn method_fits(rule: &Rule, method: &[u8]) -> bool {
    rule.methods.is_empty()
        || rule.methods.iter().any(|allowed| {
            method.eq_ignore_ascii_case(allowed.as_bytes())
                || (allowed == "GET" && method.eq_ignore_ascii_case(b"HEAD"))
        })
}

fn user_fits(rule: &Rule, identity: &Identity) -> bool {
    rule.user_ids.is_empty()
        || identity.verified_user().is_some_and(|user| rule.user_ids.iter().any(|allowed| allowed == user))
}

fn address_fits(rule: &Rule, identity: &Identity) -> bool {
    rule.ip_addresses.is_empty()
        || identity.address.is_some_and(|address| rule.ip_addresses.iter().any(|range| range.contains(address)))
}

fn endpoints_fit<'p>(templates: &'p [Template], path: &Readings<'_>) -> Option<Fit<'p>> {
    if templates.is_empty() {
        return Some(Fit { templates: [None, None], surely: true });
    }
    let normalised = templates.iter().find(|template| template.matches_normalised(&path.normalised));
    let as_sent = templates.iter().find(|template| template.matches_as_sent(&path.as_sent));
    match (normalised, as_sent) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(Fit { templates: [Some(one), None], surely: false }),
        (one, other) => {
            let other = other.filter(|other| one != Some(other));
            Some(Fit { templates: [one, other], surely: !path.has_fragment })
        }
    }
}

/// Whom a rule counts the request for; `None` where it does not apply to a request without user.
fn subject(rule: &Rule, template: Option<&Template>, seen: &Seen<'_>) -> Option<Subject> {
    let Seen { path, identity, settings, .. } = seen;
    Some(match rule.scope {
        Scope::Global => Subject::only(Kind::Global),
        Scope::PerIp => Subject::address(identity.address, settings),
        Scope::PerEndpoint => match template {
            Some(template) => template_subject(template),
            None => Subject { kind: Kind::Path, value: path.normalised.to_vec() },
        },
        Scope::PerUser => match (&identity.user, settings.anonymous) {
            (Some(user), _) => Subject::user(user),
            (None, Anonymous::PerIp) => Subject::address(identity.address, settings),
            (None, Anonymous::Shared) => Subject::only(Kind::Anonymous),
            (None, Anonymous::Skip) => return None,
        },
    })
}

fn template_subject(template: &Template) -> Subject {
    Subject { kind: Kind::Template, value: template.as_str().as_bytes().to_vec() }
}

/// The subjects of a rule that no client chooses.
pub(crate) fn fixed_subjects(rule: &Rule, settings: &IdentitySettings) -> impl Iterator<Item = Subject> {
    let only = match rule.scope {
        Scope::Global => Some(Subject::only(Kind::Global)),
        Scope::PerUser if settings.anonymous == Anonymous::Shared => Some(Subject::only(Kind::Anonymous)),
        _ => None,
    };
    let templates = if rule.scope == Scope::PerEndpoint { rule.endpoints.as_slice() } else { &[] };
    only.into_iter().chain(templates.iter().map(template_subject))
}

impl Admins {
    /// Whether a request is an admin's: counted, never limited. Only a verified user is.
    pub(crate) fn hold(&self, identity: &Identity) -> bool {
        identity.verified_user().is_some_and(|user| self.user_ids.iter().any(|admin| admin == user))
            || identity.address.is_some_and(|address| self.ip_addresses.iter().any(|range| range.contains(address)))
    }
}
