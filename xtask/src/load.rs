//! A client for tests: many requests at once over HTTP/1 or HTTP/2 without TLS, each answer whole, and raw bytes.
//! Not here: load figures of any accuracy; client, proxy and upstream share one machine.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::runtime::Runtime;

use crate::open_files;

mod lane;

use lane::Idle;

/// How long one request may take, connecting included; then it counts as failed.
const TIMEOUT: Duration = Duration::from_mins(1);

/// One request to send.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    authority: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    at: Duration,
}

impl Request {
    /// A request without headers and body; `path` begins with `/` and may hold a query.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.into(),
            path: path.into(),
            authority: "tidegate.test".into(),
            headers: Vec::new(),
            body: Bytes::new(),
            at: Duration::ZERO,
        }
    }

    /// A GET.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// The same with one more header; a name may come several times, a value may hold any bytes that HTTP can carry.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same for another host than `tidegate.test` (Host, or `:authority`).
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        self.authority = authority.into();
        self
    }

    /// The same, to be sent no sooner than this long after the first; give requests in the order of their times.
    #[must_use]
    pub fn at(mut self, after_start: Duration) -> Self {
        self.at = after_start;
        self
    }

    fn header_map(&self) -> Result<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            let header = HeaderName::try_from(name).with_context(|| format!("the header name {name:?}"))?;
            map.append(header, HeaderValue::from_bytes(value).with_context(|| format!("the value of {name}"))?);
        }
        Ok(map)
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Trailers, empty when there were none.
    pub trailers: HeaderMap,
    /// When it was sent, counted from the start of its batch.
    pub sent: Duration,
    /// From sending to the last byte.
    pub took: Duration,
}

impl Answer {
    /// A header's first value as text; `None` when absent or not ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON, such as [`crate::upstream::Upstream`] gives.
    ///
    /// # Errors
    /// When it is not JSON; the message quotes its beginning.
    pub fn json(&self) -> Result<serde_json::Value> {
        let quote = || String::from_utf8_lossy(self.body.get(..200).unwrap_or(&self.body)).into_owned();
        serde_json::from_slice(&self.body)
            .with_context(|| format!("status {}, body {:?} as JSON", self.status, quote()))
    }
}

/// The HTTP version, and how requests share connections.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    /// One connection for each request in flight.
    Http1,
    /// This many connections, requests spread evenly over them.
    Http2 { connections: usize },
}

/// A client of one address. Its methods block, on threads and in async tests alike; its work runs on threads of its
/// own that end with it. Connections are kept between calls until it is dropped.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    protocol: Protocol,
    in_flight: usize,
    idle: Idle,
    /// Always there until the drop, which needs it by value.
    runtime: Option<Runtime>,
}

impl Client {
    /// An HTTP/1.1 client that keeps up to `in_flight` requests going, each on a kept-alive connection of its own.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn http1(address: SocketAddr, in_flight: usize) -> Result<Self> {
        Self::new(address, Protocol::Http1, in_flight)
    }

    /// An HTTP/2 client (without upgrade, "prior knowledge") that spreads up to `in_flight` requests over so many
    /// connections. The kernel gives connections to Envoy's workers: a handful is needed to reach all of them.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn http2(address: SocketAddr, connections: usize, in_flight: usize) -> Result<Self> {
        Self::new(address, Protocol::Http2 { connections: connections.max(1) }, in_flight)
    }

    fn new(address: SocketAddr, protocol: Protocol, in_flight: usize) -> Result<Self> {
        open_files::raise();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("load")
            .enable_all()
            .build()
            .context("starting the client's thread")?;
        Ok(Self { address, protocol, in_flight: in_flight.max(1), idle: Idle::default(), runtime: Some(runtime) })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When there was no whole answer within a minute.
    pub fn send(&self, request: &Request) -> Result<Answer> {
        let mut answers = self.send_all(vec![request.clone()]);
        answers.pop().context("no answer")?
    }

    /// Sends all of them, opening every connection before the first is sent, so that they really are concurrent.
    /// The answers come in the order of the requests.
    pub fn send_all(&self, requests: Vec<Request>) -> Vec<Result<Answer>> {
        let mut answers: Vec<Option<Result<Answer>>> = requests.iter().map(|_| None).collect();
        let in_flight = self.in_flight.min(requests.len());
        self.stream(in_flight, requests.into_iter(), |index, answer| {
            if let Some(slot) = answers.get_mut(index) {
                *slot = Some(answer);
            }
        });
        let lost = || Err(anyhow::anyhow!("the client's task ended without an answer"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// Sends as many requests as the iterator gives, without keeping them: for floods of a million. Each answer goes
    /// to `on_answer` with the request's index, in the order of arrival.
    pub fn for_each<R>(&self, requests: R, on_answer: impl FnMut(usize, Result<Answer>))
    where
        R: Iterator<Item = Request> + Send + 'static,
    {
        self.stream(self.in_flight, requests, on_answer);
    }

    fn stream<R>(&self, in_flight: usize, requests: R, mut on_answer: impl FnMut(usize, Result<Answer>))
    where
        R: Iterator<Item = Request> + Send + 'static,
    {
        let Some(runtime) = &self.runtime else { return };
        let (answers, arriving) = mpsc::channel();
        let batch = lane::Batch {
            address: self.address,
            protocol: self.protocol,
            in_flight,
            requests: Box::new(requests),
            idle: self.idle.clone(),
        };
        runtime.spawn(batch.run(answers));
        for (index, answer) in arriving {
            on_answer(index, answer);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not the plain drop: it panics where the caller is itself a runtime's task.
            runtime.shutdown_background();
        }
    }
}

/// Sends bytes as they are and returns what came back until the peer closed or was silent for `patience`.
/// For requests that no client library would send.
///
/// # Errors
/// When the address refuses the connection or the bytes.
pub fn raw(address: SocketAddr, bytes: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(patience)).context("setting the read timeout")?;
    let mut answer = Vec::new();
    // A server may answer and close before it has read all; what it said counts more than the failed write.
    let written = stream.write_all(bytes);
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    if answer.is_empty() {
        written.with_context(|| format!("writing {} bytes to {address}", bytes.len()))?;
    }
    Ok(answer)
}

/// How long a batch has been going; shared by its lanes.
fn since(start: Instant) -> Duration {
    start.elapsed()
}
