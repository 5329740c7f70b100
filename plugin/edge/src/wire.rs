//! How requests come in from JavaScript and how decisions go back: texts whose fields end where a NUL stands, which no
//! HTTP header can hold. What the fields mean to a client is the engine's.

use std::borrow::Cow;

use tidegate_engine::address::parse_address;
use tidegate_engine::{Decision, Header, Request};

/// What separates fields.
const END: char = '\0';

/// A header line, decoded where that was needed.
type Line<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// A request as JavaScript tells it.
pub(crate) struct Told<'a> {
    lines: Vec<Line<'a>>,
    peer: &'a str,
    metadata: Vec<Vec<u8>>,
}

impl<'a> Told<'a> {
    /// Reads `method, path, peer`, one field for each of `sources` metadata values, then name and value of each header.
    pub(crate) fn read(text: &'a str, sources: usize) -> Self {
        let mut fields = text.split(END);
        let mut next = || fields.next().unwrap_or_default();
        let (method, path, peer) = (next(), next(), next());
        let metadata = (0..sources).map(|_| next().as_bytes().to_vec()).collect();
        let mut lines = vec![(Cow::Borrowed(&b":method"[..]), bytes(method)), (Cow::Borrowed(b":path"), bytes(path))];
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            lines.push((Cow::Borrowed(name.as_bytes()), bytes(value)));
        }
        Self { lines, peer, metadata }
    }

    /// Whether its address is one, or was left out.
    pub(crate) fn has_readable_peer(&self) -> bool {
        self.peer.is_empty() || parse_address(self.peer.as_bytes()).is_some()
    }

    /// Calls with the request as the engine wants it.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<Header<'_>> = self.lines.iter().map(|(name, value)| (&**name, &**value)).collect();
        ask(&Request { headers: &headers, peer: self.peer.as_bytes(), metadata: &self.metadata })
    }
}

/// The bytes that a JavaScript header value stands for: each character is one byte (Fetch, "isomorphic decode"). Text
/// with characters that are no byte can only come from code, and means its UTF-8.
fn bytes(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text.as_bytes());
    }
    let isomorphic: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    isomorphic.map_or_else(|| Cow::Borrowed(text.as_bytes()), Cow::Owned)
}

/// A decision's texts: `rule, reason, status, gRPC status, number of headers`, then name and value of each header, then the body.
/// A status of 0 is none: Tidegate gives no answer of its own.
pub(crate) fn texts(decision: &Decision, rule: &str, reason: &str) -> String {
    let (mut status, mut grpc, mut body) = (String::from("0"), String::new(), "");
    let mut headers: Vec<&str> = Vec::new();
    if let Some(response) = &decision.response {
        status = response.status.to_string();
        grpc = response.grpc_status.map_or_else(String::new, |status| status.to_string());
        body = &response.body;
        headers.extend(response.headers.iter().flat_map(|(name, value)| [name, value.as_str()]));
    } else {
        headers.extend(decision.headers.iter().flat_map(|(name, value)| [*name, value.as_str()]));
    }
    let count = (headers.len() / 2).to_string();
    let fields = [rule, reason, &status, &grpc, &count].into_iter().chain(headers).chain([body]);
    fields.collect::<Vec<&str>>().join("\0")
}

/// What a reduced form changes about a forwarded request: the path or nothing, then name and value of each header.
pub(crate) fn reduced(path: Option<&str>, headers: &[(String, String)]) -> String {
    let headers = headers.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    core::iter::once(path.unwrap_or_default()).chain(headers).collect::<Vec<&str>>().join("\0")
}
