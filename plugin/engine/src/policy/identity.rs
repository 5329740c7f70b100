//! Where identities come from: a policy's `identity` and `admins`. Reading them off a request is `crate::identity`'s.

use super::json::Node;
use super::mistake::{Mistake, Mistakes, entry, shown};
use crate::address::Cidr;

/// Where identities come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySettings {
    /// Sources of a user id, in order; the first that yields a value counts.
    pub user: Vec<UserSource>,
    /// What a per-user rule does with a request without user.
    pub anonymous: Anonymous,
    /// Where the address comes from; `None` is the connection, a number counts trusted proxies in `x-forwarded-for`.
    pub trusted_hops: Option<usize>,
    /// Leading bits of an IPv4 address that make an identity, 1 to 32.
    pub ipv4_prefix: u8,
    /// Leading bits of an IPv6 address that make an identity, 1 to 128.
    pub ipv6_prefix: u8,
}

/// One source of a user id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    /// A value in the host's dynamic metadata; verified.
    Metadata(Vec<String>),
    /// A request header, its name in lower case.
    Header {
        /// The header's name, lower case.
        name: String,
        /// A filter before this one sets or checks it and strips a client's copy.
        verified: bool,
    },
    /// A cookie by name; unverified.
    Cookie(String),
    /// A claim of a JWT that nobody verified.
    JwtClaim {
        /// The claim's name.
        claim: String,
        /// The header that carries the token, lower case.
        header: String,
    },
}

/// What a per-user rule does with a request without user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Counts it under its address.
    PerIp,
    /// Counts all of them as one.
    Shared,
    /// Does not apply.
    Skip,
}

/// Who is never limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admins {
    /// Verified user ids.
    pub user_ids: Vec<String>,
    /// Address ranges.
    pub ip_addresses: Vec<Cidr>,
}

impl IdentitySettings {
    /// Builds from a node that fits the format.
    pub(super) fn build(node: &Node, mistakes: &mut Mistakes) -> Option<Self> {
        let user = node.get("user")?.entries();
        for (index, source) in user.iter().enumerate() {
            if let Some(twin) = user.iter().take(index).position(|earlier| earlier == source) {
                let allowed = format!("each source once; /identity/user/{twin} is the same");
                mistakes.add(Mistake::new(&entry("/identity/user", index), shown(source), allowed));
            }
        }
        let ip = node.get("ip")?;
        let hops = ip.get("from")?.get("x_forwarded_for").and_then(|header| header.get("trusted_hops"));
        Some(Self {
            user: user.iter().map(UserSource::build).collect::<Option<_>>()?,
            anonymous: match node.word("anonymous")? {
                "per_ip" => Anonymous::PerIp,
                "shared" => Anonymous::Shared,
                _ => Anonymous::Skip,
            },
            trusted_hops: hops.and_then(Node::whole).and_then(|hops| usize::try_from(hops).ok()),
            ipv4_prefix: u8::try_from(ip.small("ipv4_prefix")?).ok()?,
            ipv6_prefix: u8::try_from(ip.small("ipv6_prefix")?).ok()?,
        })
    }

    /// The first unverified source that stands before a verified one, and that one: a client that sends the first has its
    /// say instead of the second's.
    pub(super) fn unverified_before_verified(&self) -> Option<(usize, usize)> {
        let first = self.user.iter().position(|source| !source.is_verified())?;
        let next = self.user.iter().skip(first).position(UserSource::is_verified)?;
        Some((first, first.saturating_add(next)))
    }

    /// Whether any source yields identities that clients cannot make up.
    pub fn has_verified_source(&self) -> bool {
        self.user.iter().any(UserSource::is_verified)
    }
}

impl UserSource {
    /// Whether clients cannot make up what it yields.
    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Metadata(_) | Self::Header { verified: true, .. })
    }

    fn build(node: &Node) -> Option<Self> {
        if node.get("metadata").is_some() {
            return node.words("metadata").map(Self::Metadata);
        }
        if let Some(name) = node.word("cookie") {
            return Some(Self::Cookie(name.to_owned()));
        }
        let header = node.word("header")?.to_ascii_lowercase();
        match node.word("jwt_claim") {
            Some(claim) => Some(Self::JwtClaim { claim: claim.to_owned(), header }),
            None => Some(Self::Header { name: header, verified: node.word("trust")? == "verified" }),
        }
    }
}

impl Admins {
    /// Builds from a node that fits the format.
    pub(super) fn build(node: &Node) -> Option<Self> {
        Some(Self { user_ids: node.words("user_ids")?, ip_addresses: ranges(node)? })
    }
}

/// The member `ip_addresses` of a node that fits the format.
pub(super) fn ranges(node: &Node) -> Option<Vec<Cidr>> {
    node.get("ip_addresses")?.entries().iter().map(|range| Cidr::parse(range.text()?).ok()).collect()
}
