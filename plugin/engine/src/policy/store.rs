//! Where counters live: a policy's `store`. How a store is asked is not known here.

use super::json::Node;
use super::mistake::{Mistake, Mistakes, scheme};
use super::secret::Secret;
use crate::time::Micros;

/// Where the counters live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// In the proxy's shared data.
    Local {
        /// How many keys the table is made for, 1,024 to 4,194,304.
        max_keys: u32,
    },
    /// In Redis, reached by HTTP.
    Redis(Redis),
}

/// How Redis is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// The proxy's cluster that reaches the gateway.
    pub cluster: String,
    /// The `:authority` of the calls.
    pub authority: String,
    /// What the gateway speaks.
    pub protocol: Protocol,
    /// Who Tidegate is to the gateway.
    pub credentials: Credentials,
    /// How long a request waits, 1 ms to 10 s.
    pub timeout: Micros,
    /// Whether cells are leased: the store is then asked once for several requests.
    pub leases: bool,
    /// How many keys the proxy's own table is made for, 1,024 to 4,194,304.
    pub max_keys: u32,
    /// When to stop asking.
    pub breaker: Breaker,
}

/// What a gateway speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Commands as JSON arrays.
    Upstash,
    /// Commands as paths.
    Webdis,
}

/// Who Tidegate is to a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody.
    None,
    /// The bearer of this token.
    Token(Secret),
    /// A user with a password.
    Basic {
        /// The user, without a colon.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// When to stop asking a store that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failed calls in a row that open it, 1 to 1,000.
    pub failures: u32,
    /// How long it stays open, 1 ms to 10 min.
    pub open: Micros,
}

impl Store {
    /// How many keys the proxy's own table is made for.
    pub fn max_keys(&self) -> u32 {
        match self {
            Self::Local { max_keys } => *max_keys,
            Self::Redis(redis) => redis.max_keys,
        }
    }

    /// Builds from a node that fits the format.
    pub(super) fn build(node: &Node, mistakes: &mut Mistakes) -> Option<Self> {
        let max_keys = node.small("max_keys")?;
        if node.word("type")? == "local" {
            return Some(Self::Local { max_keys });
        }
        let breaker = node.get("breaker")?;
        Some(Self::Redis(Redis {
            cluster: node.word("cluster")?.to_owned(),
            authority: node.word("authority")?.to_owned(),
            protocol: if node.word("protocol")? == "upstash" { Protocol::Upstash } else { Protocol::Webdis },
            credentials: Credentials::build(node, mistakes)?,
            timeout: Micros::from_millis(node.get("timeout_ms")?.whole()?),
            leases: node.word("mode")? == "lease",
            max_keys,
            breaker: Breaker {
                failures: breaker.small("failures")?,
                open: Micros::from_millis(breaker.get("open_ms")?.whole()?),
            },
        }))
    }
}

impl Credentials {
    fn build(store: &Node, mistakes: &mut Mistakes) -> Option<Self> {
        match (store.get("token"), store.get("basic")) {
            (None, None) => Some(Self::None),
            (Some(token), None) => Some(Self::Token(Secret::new(token.text()?))),
            (None, Some(basic)) => Some(Self::Basic {
                user: basic.word("user")?.to_owned(),
                password: Secret::new(basic.word("password")?),
            }),
            (Some(_), Some(_)) => {
                mistakes.add(Mistake::new("/store/basic", "credentials beside a token", "either token or basic"));
                None
            }
        }
    }
}

/// The mistake of writing a Redis URL somewhere in the store: the filter opens no sockets.
pub(super) fn redis_url(node: &Node, pointer: &str) -> Option<Mistake> {
    let scheme = scheme(node.text()?)?.to_ascii_lowercase();
    let is_redis = ["redis", "rediss", "redis-cluster", "rediss-cluster", "sentinel"].contains(&scheme.as_str());
    let in_store = pointer.strip_prefix("/store").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (is_redis && in_store).then(|| {
        let allowed = format!(
            "\"type\": \"redis\" with the proxy's \"cluster\" that reaches a gateway over HTTP: a filter opens no \
             sockets, so run tidegate-gateway --redis {scheme}://..."
        );
        Mistake::new(pointer, format!("a {scheme}:// URL"), allowed)
    })
}
