//! A compiled policy: what [`Policy::parse`] makes of a version-1 document, ready to be matched against requests.
//! Reading, checking and describing the document live in the files below this one; matching is `matching`'s.

pub(crate) mod body;
mod build;
mod fill;
mod fits;
pub(crate) mod format;
mod identity;
pub(crate) mod json;
mod lint;
mod locate;
mod meant;
pub(crate) mod mistake;
mod operate;
mod relations;
mod rule;
mod schema;
mod secret;
mod shape;
mod store;
mod text;
mod walk;

pub use identity::{Admins, Anonymous, IdentitySettings, UserSource};
pub use json::Node;
pub use locate::locate;
pub use mistake::{Mistake, Mistakes};
pub use operate::{AdminApi, AdminToken, Alert, Condition, Webhook};
pub use rule::{OnStoreError, Rule, Scope};
pub use schema::schema_json;
pub use secret::Secret;
pub use shape::{Kind, Member, Presence, Shape, TextKind, for_editors};
pub use store::{Breaker, Credentials, Protocol, Redis, Store};

use crate::catalogue::Catalogue;

/// Longer documents are not read: 1 MiB holds a thousand rules of a kilobyte each.
const LONGEST: usize = 1 << 20;

/// A whole policy document, checked and compiled.
#[derive(Debug)]
pub struct Policy {
    /// Prefix that separates deployments in a store, `[A-Za-z0-9_-]{1,64}`.
    pub namespace: String,
    /// Whether paths match loosely: without case, trailing dots and spaces.
    pub paths_are_loose: bool,
    /// Who a request counts against.
    pub identity: IdentitySettings,
    /// The rules in the policy's order.
    pub rules: Vec<Rule>,
    /// Verified users and addresses whose requests are counted but never limited.
    pub admins: Admins,
    /// Where the counters live.
    pub store: Store,
    /// Which rate-limit headers responses carry.
    pub headers: HeaderStyle,
    /// The admin API; it is off where no token is given.
    pub admin_api: AdminApi,
    /// Alerts in the policy's order.
    pub alerts: Vec<Alert>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Warning>,
}

/// Which rate-limit headers responses carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderStyle {
    /// `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.
    Draft11,
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    Legacy,
    /// Both.
    Both,
    /// None.
    Off,
}

/// Something allowed that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// JSON pointer to the place.
    pub pointer: String,
    /// What is odd, and what to write instead.
    pub message: String,
}

impl Policy {
    /// Reads and checks a policy. Equal texts give equal policies.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn parse(text: &[u8], catalogue: &Catalogue) -> Result<Self, Mistakes> {
        if text.len() > LONGEST {
            let found = format!("{} bytes", text.len());
            return Err(Mistake::new("", found, format!("at most {LONGEST} bytes")).into());
        }
        let mut document = json::parse(json::without_mark(text))?;
        let mut mistakes = Mistakes::default();
        walk::check(&document, &format::DOCUMENT, catalogue, &mut mistakes);
        fill::fill(&mut document, &format::DOCUMENT, catalogue);
        let policy = build::build(&document, catalogue, &mut mistakes);
        match policy {
            Some(mut policy) if mistakes.is_empty() => {
                policy.warnings = lint::warnings(&policy, &document);
                Ok(policy)
            }
            None if mistakes.is_empty() => {
                let found = "something that this version reads and cannot build";
                Err(Mistake::new("", found, "a policy; please report this one").into())
            }
            _ => Err(mistakes),
        }
    }

    /// The rule of this name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Where in `rules` the rule of this name is.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.rules.iter().position(|rule| rule.name == name)
    }
}
