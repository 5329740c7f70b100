//! Whether a strategy keeps its contract, which is short: few kinds of denials exist, so all of them are tried.

use core::fmt;

use crate::strategy::{Action, Denial, Reason, Reduced, Relief, Strategy};
use crate::time::Micros;

/// A denial to which a strategy gives an answer that it must not give.
#[derive(Clone, Debug)]
pub struct Misuse {
    /// The strategy's name.
    pub strategy: &'static str,
    /// What was found, and what is allowed.
    pub found: String,
}

impl fmt::Display for Misuse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} breaks the contract: {}", self.strategy, self.found)
    }
}

impl core::error::Error for Misuse {}

/// Whether `strategy` answers every kind of denial as a strategy may:
/// * equal denials get equal actions;
/// * a request that nothing was done for ([`Relief::None`]) is refused: it is not charged, so it must not go on;
/// * [`Action::Delay`] and [`Action::Enqueue`] last as long as the reservation, and only a reservation gets them, with
///   `room` or `queue` to hold it;
/// * [`Action::Degrade`] is for requests below a ceiling, with `ceiling_ppm` to say where that is;
/// * statuses are 400 to 599 in a refusal and 200 to 599 in a reduced form; header names are in lower case.
///
/// # Errors
/// The first denial that is answered otherwise.
pub fn check_strategy(strategy: &dyn Strategy) -> Result<(), Misuse> {
    let waits = [0, 1, 999_999, 1_000_000, 59_000_001, 31_622_400_000_000, u64::MAX];
    for reason in [Reason::OverQuota, Reason::Contended, Reason::StoreFailed] {
        for retry_after in waits.map(Micros) {
            for relief in [Relief::None, Relief::BelowCeiling, Relief::Reserved(retry_after)] {
                let violated = vec!["first".to_owned(), "second".to_owned()];
                let denial = Denial { rule: "first".to_owned(), reason, relief, retry_after, violated };
                // What a strategy did not ask for, it is never given.
                let is_possible = match relief {
                    Relief::None => true,
                    Relief::Reserved(wait) => reason == Reason::OverQuota && wait <= strategy.horizon(),
                    Relief::BelowCeiling => reason == Reason::OverQuota && strategy.ceiling_ppm().is_some(),
                };
                if is_possible {
                    check_denial(strategy, &denial).map_err(|found| Misuse {
                        strategy: strategy.name(),
                        found: format!("{found} to {denial:?}"),
                    })?;
                }
            }
        }
    }
    check_settings(strategy).map_err(|found| Misuse { strategy: strategy.name(), found })
}

fn check_denial(strategy: &dyn Strategy, denial: &Denial) -> Result<(), String> {
    let action = strategy.apply(denial);
    if action != strategy.apply(denial) {
        return Err("two different answers".to_owned());
    }
    let allowed = match (&action, denial.relief) {
        (Action::Respond(refusal), _) if (400..=599).contains(&refusal.status) => return Ok(()),
        (Action::Respond(_), _) => "a status of 400 to 599",
        (Action::Delay(wait), Relief::Reserved(reserved)) if *wait == reserved && strategy.room().is_some() => {
            return Ok(());
        }
        (Action::Enqueue(wait), Relief::Reserved(reserved)) if *wait == reserved && strategy.queue().is_some() => {
            return Ok(());
        }
        (
            Action::Degrade(Reduced::Respond { status: 200..=599, headers, .. } | Reduced::Forward { headers, .. }),
            Relief::BelowCeiling,
        ) if headers.iter().all(|(name, _)| is_lower(name)) => {
            return Ok(());
        }
        (_, Relief::None) => "Respond",
        (_, Relief::Reserved(_)) => {
            "Delay (with `room`) or Enqueue (with `queue`) for as long as is reserved, or Respond"
        }
        (_, Relief::BelowCeiling) => "Degrade with a status of 200 to 599 and header names in lower case, or Respond",
    };
    Err(format!("{action:?}, allowed: {allowed}, as answer"))
}

fn check_settings(strategy: &dyn Strategy) -> Result<(), String> {
    if strategy.horizon() > Micros::ZERO && strategy.room().is_none() && strategy.queue().is_none() {
        return Err("a horizon without `room` or `queue`, which bound how many requests may wait".to_owned());
    }
    if let Some(ppm @ 0..=1_000_000) = strategy.ceiling_ppm() {
        return Err(format!("a ceiling of {ppm} millionths, allowed: more than 1000000"));
    }
    match strategy.request_headers().into_iter().find(|name| !is_lower(name)) {
        Some(name) => Err(format!("the request header {name:?}, allowed: lower case")),
        None => Ok(()),
    }
}

fn is_lower(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
}
