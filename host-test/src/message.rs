//! Requests and responses as tests write and read them.

use crate::headers::Headers;

/// A request or a response: headers, body, trailers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Headers, pseudo-headers (`:path`, `:status`) among them.
    pub headers: Headers,
    /// The body so far.
    pub body: Vec<u8>,
    /// Trailers, where there are any.
    pub trailers: Option<Headers>,
    /// Whether it has ended.
    pub complete: bool,
}

impl Message {
    /// The `:status` of a response, 0 for a request.
    pub fn status(&self) -> u16 {
        self.headers.status()
    }

    /// The body as text; bytes that are not UTF-8 are shown as U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A response of the upstream or of a callout's cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<Headers>,
}

impl Response {
    /// A response without body.
    pub fn new(status: u16) -> Self {
        Self { headers: Headers::new().with(":status", status.to_string()), body: Vec::new(), trailers: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Adds a trailer.
    #[must_use]
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.trailers.get_or_insert_default().append(name, value);
        self
    }
}

/// A request of a client. Without [`open`](Request::open) it is complete: it ends with its headers, its body or its
/// trailers.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<Headers>,
    pub(crate) open: bool,
    pub(crate) peer: String,
    pub(crate) properties: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Request {
    /// A request with `:method`, `:path`, `:authority` (`example.test`) and `:scheme` (`http`).
    pub fn new(method: &str, path: &str) -> Self {
        let headers = [(":method", method), (":path", path), (":authority", "example.test"), (":scheme", "http")];
        Self {
            headers: headers.into_iter().collect(),
            body: Vec::new(),
            trailers: None,
            open: false,
            peer: "127.0.0.1:50000".to_owned(),
            properties: Vec::new(),
        }
    }

    /// A GET request.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A POST request.
    pub fn post(path: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("POST", path).body(body)
    }

    /// Adds a header, whatever its bytes; the same name may come again.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Replaces a header, for example `:authority`.
    #[must_use]
    pub fn set_header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Removes a header, for example a pseudo-header.
    #[must_use]
    pub fn without_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.headers.remove(name);
        self
    }

    /// Sets the body, which arrives in one piece.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Adds a trailer.
    #[must_use]
    pub fn trailer(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.trailers.get_or_insert_default().append(name, value);
        self
    }

    /// Leaves the request unfinished: more is sent with [`Stream::send_body`](crate::Stream::send_body) or
    /// [`Stream::send_trailers`](crate::Stream::send_trailers).
    #[must_use]
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// The client's address with its port, as `source.address` shows it. Default `127.0.0.1:50000`.
    #[must_use]
    pub fn peer(mut self, address: &str) -> Self {
        address.clone_into(&mut self.peer);
        self
    }

    /// Sets a property that the host itself does not derive, by path: `["xds", "route_name"]`. It wins over a derived
    /// one.
    #[must_use]
    pub fn property(mut self, path: &[&str], value: impl AsRef<[u8]>) -> Self {
        let path = path.join("\0").into_bytes();
        self.properties.push((path, value.as_ref().to_vec()));
        self
    }
}
