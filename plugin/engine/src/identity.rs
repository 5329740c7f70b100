//! Who a request counts against: its user, its address, and the [`Subject`] of a cell.
//! Nothing is verified here; what the policy calls verified was checked before the request came to this filter.

use core::net::IpAddr;

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};

use crate::address::{Cidr, parse_address};
use crate::policy::json::{self, Node};
use crate::policy::{IdentitySettings, UserSource};
use crate::request::Request;

/// A user id and what it is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id, never empty, never with control characters.
    pub id: String,
    /// Whether somebody checked it. Only a verified user matches `admins`, `user_ids` or an override.
    pub verified: bool,
    /// Whether the id may be a secret (a cookie, an unverified header): then only its hash is shown.
    pub may_be_secret: bool,
}

/// Everybody that one request counts against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user, where a source yields one.
    pub user: Option<User>,
    /// The client's address, IPv4-mapped ones unmapped; `None` where the host told nothing readable.
    pub address: Option<IpAddr>,
}

impl Identity {
    /// Reads a request's identity by the policy's sources.
    pub fn of(request: &Request<'_>, settings: &IdentitySettings) -> Self {
        Self { user: user(request, settings), address: address(request, settings.trusted_hops) }
    }

    /// The id of the user, where it is verified.
    pub fn verified_user(&self) -> Option<&str> {
        self.user.as_ref().filter(|user| user.verified).map(|user| user.id.as_str())
    }
}

fn user(request: &Request<'_>, settings: &IdentitySettings) -> Option<User> {
    let mut metadata = request.metadata.iter();
    settings.user.iter().find_map(|source| match source {
        UserSource::Metadata(_) => {
            let id = text(metadata.next()?)?;
            Some(User { id, verified: true, may_be_secret: false })
        }
        UserSource::Header { name, verified } => {
            let id = line(request.only_value(name)?)?;
            Some(User { id, verified: *verified, may_be_secret: !*verified })
        }
        UserSource::Cookie(name) => {
            let id = text(cookie(request, name)?)?;
            Some(User { id, verified: false, may_be_secret: true })
        }
        UserSource::JwtClaim { claim, header } => {
            let id = unverified_claim(request.only_value(header)?, claim)?;
            Some(User { id, verified: false, may_be_secret: false })
        }
    })
}

/// A value that can be an id: UTF-8, not blank, without control characters (a number in the host's metadata is eight
/// raw bytes, a list is packed with zeros). It stays as it is: whoever verified `root` with a space behind it did not
/// verify `root`.
fn text(value: &[u8]) -> Option<String> {
    id(core::str::from_utf8(value).ok()?)
}

/// A header line's value likewise, without the spaces and tabs around it, which are no part of it (RFC 9110, section
/// 5.5).
fn line(value: &[u8]) -> Option<String> {
    id(core::str::from_utf8(value).ok()?.trim_matches([' ', '\t']))
}

fn id(text: &str) -> Option<String> {
    (!text.trim().is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// The value of a cookie that is sent exactly once.
fn cookie<'a>(request: &Request<'a>, name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    for line in request.values("cookie") {
        for pair in line.split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let Some(rest) = pair.strip_prefix(name.as_bytes()) else { continue };
            let Some(value) = rest.strip_prefix(b"=").or(rest.is_empty().then_some(rest)) else { continue };
            if found.replace(value).is_some() {
                return None;
            }
        }
    }
    found
}

/// A string claim of a JWT whose signature nobody looked at. RFC 7519: header.payload.signature, base64url unpadded.
fn unverified_claim(header: &[u8], claim: &str) -> Option<String> {
    let value = core::str::from_utf8(header).ok()?.trim();
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
        Some(_) => return None,
        None => value,
    };
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let payload = Base64UrlUnpadded::decode_vec(payload).ok()?;
    let Node::Object(members) = json::parse(&payload).ok()? else { return None };
    let mut values = members.iter().filter(|(name, _)| name == claim).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(Node::Text(text)), None) => id(text),
        _ => None,
    }
}

/// The address that counts: the peer's, or the `hops`-th entry of `x-forwarded-for` from the right over all its lines.
/// The peer stands in where that entry is missing or no address.
fn address(request: &Request<'_>, hops: Option<usize>) -> Option<IpAddr> {
    let forwarded = hops.and_then(|hops| {
        let entries = request.values("x-forwarded-for").rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        parse_address(entries.take(hops).nth(hops.checked_sub(1)?)?)
    });
    forwarded.or_else(|| request.peer_address())
}

/// What the cells of a rule are counted for: one kind of identity and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Which kind of identity.
    pub kind: Kind,
    /// The identity's bytes; empty for kinds that have only one, and for a user that nobody verified the digest.
    pub value: Vec<u8>,
}

/// A kind of identity. Equal values of different kinds never share a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user that somebody verified.
    VerifiedUser,
    /// A user that nobody verified.
    UnverifiedUser,
    /// An address, cut to the policy's prefix.
    Address,
    /// A configured template: `value` is its text.
    Template,
    /// A normalised path that no template names.
    Path,
    /// Everything.
    Global,
    /// All requests without user.
    Anonymous,
}

impl Kind {
    /// The letter that a store's keys use.
    pub fn letter(self) -> char {
        match self {
            Self::VerifiedUser => 'v',
            Self::UnverifiedUser => 'u',
            Self::Address => 'i',
            Self::Template | Self::Path => 'e',
            Self::Global => 'g',
            Self::Anonymous => 'a',
        }
    }

    /// Whether a client's bytes choose the value. What no client chooses has a slot of its own.
    pub fn is_chosen_by_clients(self) -> bool {
        matches!(self, Self::VerifiedUser | Self::UnverifiedUser | Self::Address | Self::Path)
    }
}

impl Subject {
    /// A user.
    pub fn user(user: &User) -> Self {
        if user.verified {
            return Self { kind: Kind::VerifiedUser, value: user.id.clone().into_bytes() };
        }
        Self::unverified(digest(Kind::UnverifiedUser, user.id.as_bytes()))
    }

    /// A user that nobody verified, by the digest that stands for the id wherever it is shown or stored: it may be a secret.
    pub fn unverified(digest: [u8; 16]) -> Self {
        Self { kind: Kind::UnverifiedUser, value: digest.to_vec() }
    }

    /// An address, cut to the policy's prefixes. Requests whose address is unknown count as one.
    pub fn address(address: Option<IpAddr>, settings: &IdentitySettings) -> Self {
        let value = match address {
            None => String::new(),
            Some(IpAddr::V4(v4)) => Cidr::new(IpAddr::V4(v4), settings.ipv4_prefix).to_string(),
            Some(v6) => Cidr::new(v6, settings.ipv6_prefix).to_string(),
        };
        Self { kind: Kind::Address, value: value.into_bytes() }
    }

    /// A kind that has only one member.
    pub fn only(kind: Kind) -> Self {
        Self { kind, value: Vec::new() }
    }

    /// 128 bits of SHA-256 over kind and value: what a store's key or an operator's page shows.
    pub fn digest(&self) -> [u8; 16] {
        match <[u8; 16]>::try_from(self.value.as_slice()) {
            Ok(digest) if self.kind == Kind::UnverifiedUser => digest,
            _ => digest(self.kind, &self.value),
        }
    }
}

fn digest(kind: Kind, value: &[u8]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update([u8::try_from(kind.letter()).unwrap_or(b'?')]);
    hasher.update(value);
    let mut cut = [0; 16];
    for (to, from) in cut.iter_mut().zip(hasher.finalize()) {
        *to = from;
    }
    cut
}

#[cfg(test)]
mod tests;
