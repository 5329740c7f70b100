//! Accepting connections and speaking HTTP on them: HTTP/1.1, HTTP/2 without TLS by prior knowledge, both over TLS by ALPN.
//!
//! `axum::serve` would do, but has no limits on connections or on slow heads. Not here: what is served (`routes`), and by
//! which thread (`threads`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::flags::Settings;
use crate::stream::Patient;

/// How long an HTTP/1.1 connection may take for a head, and may idle before the next one. A proxy that keeps idle
/// connections must drop them sooner, or it will now and then write into one that closes; the examples say 60 s.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a caller may take nothing of its answers. Proxies read at once, and kernels hold what is on its way.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new connection may take for its first bytes or its TLS handshake.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests at once on one HTTP/2 connection: a proxy worker opens few connections and many streams.
const MOST_STREAMS: u32 = 1_024;
/// Largest head: far above a token's, far below what would hurt.
const MOST_HEAD_BYTES: u32 = 32 * 1024;
/// Pause after a failed accept; out of file descriptors, an immediate retry would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How an HTTP/2 connection starts without TLS (RFC 9113, section 3.4); no HTTP/1 method starts with it.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A bound socket.
pub struct Listener {
    socket: TcpListener,
    places: Arc<Semaphore>,
}

/// An accepted connection and its place among `--max-connections`.
pub struct Arrival {
    stream: std::net::TcpStream,
    place: OwnedSemaphorePermit,
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

impl Listener {
    /// Binds `--listen`.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(settings: &Settings) -> Result<Self, String> {
        let named = |error| format!("--listen {}: {error}", settings.listen);
        let socket = TcpListener::bind(settings.listen).await.map_err(named)?;
        let address: SocketAddr = socket.local_addr().map_err(named)?;
        let scheme = if settings.server_tls.is_some() { "https" } else { "http" };
        tracing::info!(%address, scheme, token = !settings.tokens.is_empty(), "listening");
        Ok(Self { socket, places: Arc::new(Semaphore::new(settings.max_connections)) })
    }

    /// Accepts until `stop` is done and gives the connections out in turn.
    pub async fn accept_for(self, threads: &[UnboundedSender<Arrival>], stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut turns = threads.iter().cycle();
        loop {
            tokio::select! {
                arrival = self.accept() => if let (Some(arrival), Some(thread)) = (arrival, turns.next()) {
                    // A thread ends only after this loop.
                    let _ = thread.send(arrival);
                },
                () = &mut stop => break,
            }
        }
    }

    async fn accept(&self) -> Option<Arrival> {
        // A place first: beyond --max-connections, callers wait in the kernel's queue.
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        match self.socket.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => Some(Arrival { stream, place }),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// What a connection sees of the end of serving.
struct Ending {
    /// Lets requests finish.
    watcher: Watcher,
    /// Becomes true.
    ends: watch::Receiver<bool>,
}

/// Comes back at the end of serving.
async fn end_of(ends: &mut watch::Receiver<bool>) {
    // An error says that it is over already.
    let _ = ends.wait_for(|ends| *ends).await;
}

/// Serves what arrives until no more can, then lets what is in flight finish, for at most the drain time. Connections that
/// have not brought a whole head yet end at once.
pub async fn serve(mut arrivals: UnboundedReceiver<Arrival>, settings: &Settings, router: Router) {
    let graceful = GracefulShutdown::new();
    let tls = settings.server_tls.clone().map(TlsAcceptor::from);
    let (end, ends) = watch::channel(false);
    while let Some(Arrival { stream, place }) = arrivals.recv().await {
        // It is non-blocking already; an error would say that it is gone.
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let ending = Ending { watcher: graceful.watcher(), ends: ends.clone() };
        let (router, tls) = (router.clone(), tls.clone());
        tokio::spawn(async move {
            let _place = place;
            start(stream, tls, router, ending).await;
        });
    }
    end.send_replace(true);
    if timeout(settings.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open at the end of the drain time");
    }
}

async fn start(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, mut ending: Ending) {
    // Answers are small and whole: waiting to fill a segment would only delay them. An error leaves them slower.
    let _ = stream.set_nodelay(true);
    match tls {
        None => {
            if let Some(Some(version)) = begun(version_of(&stream), &mut ending.ends).await {
                speak(stream, version, router, ending).await;
            }
        }
        Some(acceptor) => {
            if let Some(Ok(stream)) = begun(acceptor.accept(stream), &mut ending.ends).await {
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                speak(stream, if is_h2 { Version::Http2 } else { Version::Http1 }, router, ending).await;
            }
        }
    }
}

/// What the beginning of a connection came to; nothing where it takes too long or serving ends.
async fn begun<T>(beginning: impl Future<Output = T>, ends: &mut watch::Receiver<bool>) -> Option<T> {
    tokio::select! {
        begun = timeout(START_TIMEOUT, beginning) => begun.ok(),
        () = end_of(ends) => None,
    }
}

/// Looks at the first bytes without taking them; `None` where the connection ends before they tell.
async fn version_of(stream: &TcpStream) -> Option<Version> {
    let mut first = [0; HTTP2_PREFACE.len()];
    let mut seen_before = 0;
    loop {
        let seen = stream.peek(&mut first).await.ok()?;
        let start = first.get(..seen)?;
        if !HTTP2_PREFACE.starts_with(start) {
            return Some(Version::Http1);
        }
        if seen == HTTP2_PREFACE.len() {
            return Some(Version::Http2);
        }
        if seen == 0 {
            return None;
        }
        // Bytes that were peeked at stay readable, so waiting for readiness would spin.
        if seen == seen_before {
            sleep(Duration::from_millis(5)).await;
        }
        seen_before = seen;
    }
}

async fn speak<S>(stream: S, version: Version, router: Router, ending: Ending)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Patient::new(stream, WRITE_TIMEOUT));
    let has_head = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&has_head);
    let router = TowerToHyperService::new(router);
    let router = service_fn(move |request| {
        seen.store(true, Relaxed);
        router.call(request)
    });
    let Ending { watcher, mut ends } = ending;
    let ended_early = async move {
        end_of(&mut ends).await;
        if has_head.load(Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    // What goes wrong on a connection is the caller's affair: a reset, half a head.
    match version {
        Version::Http1 => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MOST_HEAD_BYTES as usize)
                .serve_connection(stream, router);
            tokio::select! {
                _ = watcher.watch(connection) => {}
                () = ended_early => {}
            }
        }
        Version::Http2 => {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(Some(HEAD_TIMEOUT))
                .max_concurrent_streams(MOST_STREAMS)
                .max_header_list_size(MOST_HEAD_BYTES)
                .serve_connection(stream, router);
            tokio::select! {
                _ = watcher.watch(connection) => {}
                () = ended_early => {}
            }
        }
    }
}

/// Lets the process hold as many connections as the system allows: many systems start programs with room for 1,024 files.
pub fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}
