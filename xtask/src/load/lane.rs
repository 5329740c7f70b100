//! The lanes of the client: each takes the next request, sends it on its connection, hands over the answer.
//! Not here: what a request is, and the blocking face of it all (the parent module).

use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::HOST;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use super::{Answer, Protocol, Request, TIMEOUT};

/// Where lanes take requests from, numbered by the order in which they were taken.
type Requests = Arc<Mutex<std::iter::Enumerate<Box<dyn Iterator<Item = Request> + Send>>>>;

/// Connections that earlier batches left open.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle(Arc<Mutex<Vec<Connection>>>);

impl Idle {
    fn take(&self) -> Connection {
        self.0.lock().ok().and_then(|mut idle| idle.pop()).unwrap_or(Connection::Closed)
    }

    fn put(&self, connection: Connection) {
        if let (Ok(mut idle), false) = (self.0.lock(), matches!(connection, Connection::Closed)) {
            idle.push(connection);
        }
    }
}

/// Requests to be sent together.
pub(super) struct Batch {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) in_flight: usize,
    pub(super) requests: Box<dyn Iterator<Item = Request> + Send>,
    pub(super) idle: Idle,
}

impl Batch {
    /// Sends all requests over `in_flight` lanes and every answer, with its number, into `answers`.
    pub(super) async fn run(self, answers: Sender<(usize, Result<Answer>)>) {
        let Self { address, protocol, in_flight, requests, idle } = self;
        let requests: Requests = Arc::new(Mutex::new(requests.enumerate()));
        let all_connected = Arc::new(Barrier::new(in_flight));
        let mut shared: Vec<Connection> = Vec::new();
        if let Protocol::Http2 { connections } = protocol {
            for _ in 0..connections.min(in_flight) {
                let mut connection = idle.take();
                if !connection.is_ready().await {
                    // One that fails now is tried again by its lanes, which then report why.
                    connection = Connection::open(address, protocol).await.unwrap_or(Connection::Closed);
                }
                shared.push(connection);
            }
        }
        for number in 0..in_flight {
            let from_shared = number.checked_rem(shared.len()).and_then(|at| shared.get(at));
            let connection = from_shared.map_or_else(|| idle.take(), Connection::share);
            let lane = Lane { address, protocol, connection, start: Instant::now(), idle: idle.clone() };
            tokio::spawn(lane.run(requests.clone(), all_connected.clone(), answers.clone()));
        }
        for connection in shared {
            idle.put(connection);
        }
    }
}

struct Lane {
    address: SocketAddr,
    protocol: Protocol,
    connection: Connection,
    start: Instant,
    idle: Idle,
}

impl Lane {
    async fn run(mut self, requests: Requests, ready: Arc<Barrier>, answers: Sender<(usize, Result<Answer>)>) {
        // A failure is met again, and reported, with the first request.
        let _ = self.connect().await;
        ready.wait().await;
        self.start = Instant::now();
        let next = || requests.lock().ok().and_then(|mut requests| requests.next());
        let mut current = next();
        while let Some((number, request)) = current {
            tokio::time::sleep_until((self.start + request.at).into()).await;
            let answer = match tokio::time::timeout(TIMEOUT, self.send(&request)).await {
                Ok(answer) => answer,
                Err(_) => Err(anyhow::anyhow!("no whole answer within {TIMEOUT:?}")),
            };
            if answer.is_err() {
                self.connection = Connection::Closed;
            }
            current = next();
            if current.is_none() {
                // Before the last answer, so that who sends again on receiving it finds the connection.
                self.put_back();
            }
            let answer = answer.with_context(|| format!("{} {} to {}", request.method, request.path, self.address));
            if answers.send((number, answer)).is_err() {
                return;
            }
        }
    }

    /// Shared connections were put back when they were shared.
    fn put_back(&mut self) {
        if matches!(self.connection, Connection::Http1(_)) {
            self.idle.put(std::mem::replace(&mut self.connection, Connection::Closed));
        }
    }

    async fn connect(&mut self) -> Result<()> {
        if !self.connection.is_ready().await {
            self.connection = Connection::open(self.address, self.protocol).await?;
        }
        Ok(())
    }

    async fn send(&mut self, request: &Request) -> Result<Answer> {
        self.connect().await?;
        let sent = super::since(self.start);
        let response = self.connection.send(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("reading the body")?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
            sent,
            took: super::since(self.start).saturating_sub(sent),
        })
    }
}

/// A connection to send on; HTTP/2 ones can be shared.
#[derive(Debug)]
enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
    Closed,
}

impl Connection {
    async fn open(address: SocketAddr, protocol: Protocol) -> Result<Self> {
        let connecting = tokio::time::timeout(Duration::from_secs(20), TcpStream::connect(address));
        let stream = connecting.await.context("connecting took too long")?.context("connecting")?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.context("starting HTTP/1")?;
                tokio::spawn(connection);
                Ok(Self::Http1(sender))
            }
            Protocol::Http2 { .. } => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.context("starting HTTP/2")?;
                tokio::spawn(connection);
                Ok(Self::Http2(sender))
            }
        }
    }

    fn share(&self) -> Self {
        match self {
            Self::Http2(sender) => Self::Http2(sender.clone()),
            Self::Http1(_) | Self::Closed => Self::Closed,
        }
    }

    async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
            Self::Closed => false,
        }
    }

    async fn send(&mut self, request: &Request) -> Result<hyper::Response<Incoming>> {
        let body = Full::new(request.body.clone());
        let builder = hyper::Request::builder().method(request.method.as_str());
        let mut headers = request.header_map()?;
        match self {
            Self::Http1(sender) => {
                if !headers.contains_key(HOST) {
                    headers.insert(HOST, request.authority.parse().context("the authority as a header")?);
                }
                let mut message = builder.uri(&request.path).body(body).context("putting the request together")?;
                *message.headers_mut() = headers;
                sender.send_request(message).await.context("sending over HTTP/1")
            }
            Self::Http2(sender) => {
                let uri = format!("http://{}{}", request.authority, request.path);
                let mut message = builder.uri(uri).body(body).context("putting the request together")?;
                *message.headers_mut() = headers;
                sender.send_request(message).await.context("sending over HTTP/2")
            }
            Self::Closed => Err(anyhow::anyhow!("the connection is closed")),
        }
    }
}
