//! A small HTTP server for tests and the demo: HTTP/1 and HTTP/2 on one loopback port, answers with what it was asked.
//! Not here: anything that a policy decides; a request that arrives here was let through.
//!
//! * any path: 200 and JSON: `method`, `path`, `headers` (name to list of values), `body_bytes`, `body_sha256`
//! * `/status/503...`: that status · `/delay/250...`: the same after 250 ms (at most a minute)
//! * content type `application/grpc...`: the body sent back as a gRPC reply, trailer `grpc-status: 0`
//! * `upgrade: websocket`: 101, then every byte sent back

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::open_files;

mod answer;

/// How many arrivals are kept; older ones are forgotten, so that a flood does not fill the memory.
const KEPT_ARRIVALS: usize = 100_000;
/// How much of a body is kept with its arrival, in bytes.
const KEPT_BODY: usize = 65_536;

/// A request that reached the upstream.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When its body had been read.
    pub time: SystemTime,
    /// The method.
    pub method: String,
    /// Path and query as received.
    pub path: String,
    /// All headers as received.
    pub headers: HeaderMap,
    /// The body, its first 65,536 bytes.
    pub body: Bytes,
}

/// A running upstream; ends when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    /// Always there until the drop, which needs it by value.
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct State {
    requests: AtomicU64,
    /// 0: never.
    fail_every: AtomicU64,
    arrivals: Mutex<VecDeque<Arrival>>,
}

impl Upstream {
    /// Starts one on a free port of 127.0.0.1, on a thread of its own.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub fn start() -> Result<Self> {
        open_files::raise();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("upstream")
            .enable_all()
            .build()
            .context("starting the upstream's thread")?;
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).context("binding the upstream's port")?;
        socket.set_nonblocking(true).context("setting the upstream's socket to non-blocking")?;
        let address = socket.local_addr().context("asking for the upstream's port")?;
        let state = Arc::new(State::default());
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(socket).context("handing the upstream's socket to its thread")?
        };
        runtime.spawn(accept(listener, state.clone()));
        Ok(Self { address, state, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests came, since the start, failed ones included.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// The last 100,000 arrivals, oldest first.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.state.arrivals.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// From now on every n-th request is answered 503; 0 ends that.
    pub fn fail_every(&self, n: u64) {
        self.state.fail_every.store(n, Ordering::SeqCst);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not the plain drop: it panics where the caller is itself a runtime's task.
            runtime.shutdown_background();
        }
    }
}

impl State {
    /// Counts and keeps an arrival; returns whether it is one of those that shall fail.
    fn arrived(&self, arrival: Arrival) -> bool {
        let number = self.requests.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() >= KEPT_ARRIVALS {
            arrivals.pop_front();
        }
        arrivals.push_back(arrival);
        let every = self.fail_every.load(Ordering::SeqCst);
        every != 0 && number.is_multiple_of(every)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // Hyper's default of 200 streams would make Envoy queue in tests of thousands at once.
    server.http2().max_concurrent_streams(100_000);
    loop {
        // Accepting fails when files run out; the next attempt may do better, and must not spin.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (server, state) = (server.clone(), state.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| answer::answer(request, state.clone()));
            // A connection that breaks is the client's business.
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

#[cfg(test)]
mod tests;
