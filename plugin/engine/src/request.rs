//! One request as the host tells it. It borrows; nothing is decoded or judged here.

use crate::address::parse_address;
use core::net::IpAddr;

/// What the engine needs to know of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All headers in the order received, pseudo-headers included, names in lower case.
    pub headers: &'a [Header<'a>],
    /// The peer's address as the host prints it (`1.2.3.4:80`); empty where there is none.
    pub peer: &'a [u8],
    /// One value for each of [`crate::Engine::metadata_sources`], in that order; empty where the host has none.
    pub metadata: &'a [Vec<u8>],
}

/// A header line: name and value.
pub type Header<'a> = (&'a [u8], &'a [u8]);

impl<'a> Request<'a> {
    /// The values of all lines called `name`.
    pub fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let headers = self.headers;
        headers.iter().filter(move |(key, _)| *key == name.as_bytes()).map(|(_, value)| *value)
    }

    /// The value of `name` where there is exactly one such line.
    pub fn only_value(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The method, or nothing.
    pub fn method(&self) -> &'a [u8] {
        self.values(":method").next().unwrap_or_default()
    }

    /// The path with its query, or nothing.
    pub fn path(&self) -> &'a [u8] {
        self.values(":path").next().unwrap_or_default()
    }

    /// The address on the other end of the connection.
    pub fn peer_address(&self) -> Option<IpAddr> {
        parse_address(self.peer)
    }

    /// Whether the connection is to become something else than HTTP: a WebSocket, a tunnel.
    pub fn is_upgrade(&self) -> bool {
        self.method() == b"CONNECT" || self.values("upgrade").chain(self.values(":protocol")).next().is_some()
    }

    /// Whether this is a gRPC call: a POST whose content type says so.
    pub fn is_grpc(&self) -> bool {
        self.method() == b"POST" && looks_like_grpc(self.headers)
    }
}

/// Whether the content type is gRPC's: exactly `application/grpc`, or that and a `+`. It is what Envoy goes by, whatever the
/// method, where it puts an answer into gRPC's form (`Grpc::Common::hasGrpcContentType`).
pub fn looks_like_grpc(headers: &[Header<'_>]) -> bool {
    let content = headers.iter().find(|(name, _)| *name == b"content-type").map(|(_, value)| *value);
    matches!(content.and_then(|value| value.strip_prefix(b"application/grpc")), Some([] | [b'+', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_post_is_a_grpc_call() {
        let of = |method: &'static [u8], content: &'static [u8]| {
            Request { headers: &[(b":method", method), (b"content-type", content)], peer: b"", metadata: &[] }.is_grpc()
        };
        assert!(of(b"POST", b"application/grpc"));
        assert!(of(b"POST", b"application/grpc+proto"));
        assert!(!of(b"GET", b"application/grpc"));
        for content in ["application/grpc-web", "application/grpc;v=1", "application/grpc x", "application/grpcx"] {
            assert!(!of(b"POST", content.as_bytes()), "{content}");
        }
        assert!(!of(b"POST", b"application/json"));
    }

    #[test]
    fn a_repeated_header_has_no_only_value() {
        let headers: [Header<'_>; 3] = [(b"x", b"1"), (b"y", b"2"), (b"x", b"1")];
        let request = Request { headers: &headers, peer: b"", metadata: &[] };
        assert_eq!(request.only_value("x"), None);
        assert_eq!(request.only_value("y"), Some(&b"2"[..]));
        assert_eq!(request.only_value("z"), None);
    }
}
