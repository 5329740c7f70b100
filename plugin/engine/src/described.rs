//! A request in words: what a log or an operator tells of one instead of the request itself.
//! Reading logs and command lines is the caller's.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::json;

use crate::engine::Engine;
use crate::policy::UserSource;
use crate::request::{Header, Request};

/// What is known of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The client's address: the peer's, unless `headers` hold an `x-forwarded-for` that the policy reads.
    pub ip: String,
    /// A user id to put where the policy looks first for verified users, or where it looks first at all. Nowhere, if
    /// the policy looks for users nowhere.
    pub user: Option<String>,
    /// Further header lines, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Described {
    /// Calls `look` with the request as `engine` would be told it.
    pub fn as_request<T>(&self, engine: &Engine, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let mut metadata = vec![Vec::new(); engine.metadata_sources().count()];
        let mut user_line = None;
        if let Some(user) = &self.user {
            user_line = place(&engine.policy().identity.user, user, &mut metadata);
        }
        let pseudo: [Header<'_>; 2] = [(b":method", self.method.as_bytes()), (b":path", self.path.as_bytes())];
        let replaced = |name: &str| user_line.as_ref().is_some_and(|(own, _)| own == name);
        let own = self.headers.iter().filter(|(name, _)| !replaced(name)).chain(&user_line);
        let headers: Vec<Header<'_>> =
            pseudo.into_iter().chain(own.map(|(name, value)| (name.as_bytes(), value.as_bytes()))).collect();
        look(&Request { headers: &headers, peer: self.ip.as_bytes(), metadata: &metadata })
    }
}

/// Puts a user id into the metadata, or gives the header line that carries it.
fn place(sources: &[UserSource], user: &str, metadata: &mut [Vec<u8>]) -> Option<(String, String)> {
    let chosen = sources.iter().position(UserSource::is_verified).unwrap_or(0);
    Some(match sources.get(chosen)? {
        UserSource::Metadata(_) => {
            let earlier = sources.iter().take(chosen).filter(|source| matches!(source, UserSource::Metadata(_)));
            *metadata.get_mut(earlier.count())? = user.as_bytes().to_vec();
            return None;
        }
        UserSource::Header { name, .. } => (name.clone(), user.to_owned()),
        UserSource::Cookie(name) => ("cookie".to_owned(), format!("{name}={user}")),
        UserSource::JwtClaim { claim, header } => {
            let payload = json!({claim.as_str(): user}).to_string();
            // "e30" is an empty header; nobody looks at it, nor at the signature.
            (header.clone(), format!("Bearer e30.{}.", Base64UrlUnpadded::encode_string(payload.as_bytes())))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;
    use crate::identity::Identity;
    use crate::policy::Policy;

    #[test]
    fn a_user_is_put_where_the_policy_looks() {
        for (sources, expected) in [
            (r#"[{"cookie": "session"}, {"header": "X-User", "trust": "verified"}]"#, Some(("alice", true))),
            (r#"[{"metadata": ["a", "b"]}]"#, Some(("alice", true))),
            (r#"[{"cookie": "session"}]"#, Some(("alice", false))),
            (r#"[{"header": "x-api-key"}]"#, Some(("alice", false))),
            (r#"[{"jwt_claim": "sub", "trust": "unverified"}]"#, Some(("alice", false))),
            ("[]", None),
        ] {
            let text = format!(r#"{{"version": 1, "identity": {{"user": {sources}}}, "rules": []}}"#);
            let engine = Engine::new(Policy::parse(text.as_bytes(), &Catalogue::builtin()).unwrap());
            let headers = vec![("x-api-key".to_owned(), "other".to_owned())];
            let described = Described { user: Some("alice".to_owned()), headers, ..Described::default() };
            let identity = described.as_request(&engine, |request| Identity::of(request, &engine.policy().identity));
            let found = identity.user.as_ref().map(|user| (user.id.as_str(), user.verified));
            assert_eq!(found, expected, "{sources}");
        }
    }
}
