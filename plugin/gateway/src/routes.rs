//! The HTTP surface: `/`, `/pipeline`, `/multi-exec`, path commands, `/healthz`, `/metrics`.
//! Not here: connections and TLS (`listen`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::routing::get;
use tokio::sync::{Mutex, Semaphore};

use crate::body::{self, Held};
use crate::failure::Failure;
use crate::flags::Settings;
use crate::guard;
use crate::metrics::{ABANDONED, Gauges, Metrics};
use crate::reply::{self, Encoding};
use crate::request;
use crate::store::{Prepared, Store, prepare};

/// How long one sign of life of Redis answers for all who ask at `/healthz`: anybody may, as often as they like.
const HEALTH_SHARED: Duration = Duration::from_millis(100);
/// Methods of a command.
const COMMAND_METHODS: &str = "HEAD, GET, POST, PUT";
/// Methods of `/healthz` and `/metrics`.
const READ_METHODS: &str = "HEAD, GET";
/// Upstash's token for reading one's own writes; echoed so that its clients send it back, which costs them nothing.
const SYNC_TOKEN: &str = "upstash-sync-token";
/// Longer ones are not ours to carry around.
const LONGEST_SYNC_TOKEN: usize = 256;

/// What all requests of a thread share.
pub struct Gateway {
    settings: Arc<Settings>,
    store: Store,
    /// Requests that may be worked on; all threads share them.
    places: Arc<Semaphore>,
    /// Bytes of bodies that may be held; all threads share them, too.
    room: Arc<Semaphore>,
    /// The last sign of life, when it was asked for and what came.
    health: Mutex<Option<(Instant, Result<(), Failure>)>>,
}

impl Gateway {
    /// The gateway that these settings describe, in front of `store`. `places` has `max_in_flight` permits in all, and `room`
    /// `max_body_memory`.
    pub fn new(settings: Arc<Settings>, store: Store, places: Arc<Semaphore>, room: Arc<Semaphore>) -> Self {
        Self { settings, store, places, room, health: Mutex::new(None) }
    }

    /// Whether Redis answers. Those who ask while somebody does wait for the same answer.
    async fn health(&self) -> Result<(), Failure> {
        let mut last = self.health.lock().await;
        match &*last {
            Some((asked, found)) if asked.elapsed() < HEALTH_SHARED => found.clone(),
            _ => {
                let asked = Instant::now();
                let found = self.store.ping().await;
                *last = Some((asked, found.clone()));
                found
            }
        }
    }
}

/// Which of the protocol's endpoints a path names. Byte for byte: `/%70ipeline` is a path command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Single,
    Pipeline,
    Transaction,
    Path,
}

impl Endpoint {
    fn of(path: &str) -> Self {
        match path {
            "/" => Self::Single,
            "/pipeline" => Self::Pipeline,
            "/multi-exec" => Self::Transaction,
            _ => Self::Path,
        }
    }
}

/// The routes. Everything that is not `/healthz` or `/metrics` is a command.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/healthz", get(healthz).fallback(only_read))
        .route("/metrics", get(metrics).fallback(only_read))
        .fallback(command)
        .with_state(gateway)
}

async fn only_read(State(gateway): State<Arc<Gateway>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let judged = guard::judge_open(&gateway.settings.tokens, &uri, &headers);
    refused(&judged.err().unwrap_or(Failure::Method(READ_METHODS)))
}

async fn healthz(State(gateway): State<Arc<Gateway>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    if let Err(failure) = guard::judge_open(&gateway.settings.tokens, &uri, &headers) {
        return refused(&failure);
    }
    match gateway.health().await {
        Ok(()) => answer(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
        Err(failure) => {
            let text = format!("{}\n", failure.text());
            answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text)
        }
    }
}

async fn metrics(State(gateway): State<Arc<Gateway>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    if let Err(failure) = guard::judge_open(&gateway.settings.tokens, &uri, &headers) {
        return refused(&failure);
    }
    let text = gateway.store.metrics().text(&Gauges {
        connected: gateway.store.is_connected(),
        in_flight: gateway.settings.max_in_flight.saturating_sub(gateway.places.available_permits()),
        scripts: gateway.store.scripts.len(),
    });
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

async fn command(State(gateway): State<Arc<Gateway>>, request: Request) -> Response<Body> {
    let mut tally = Tally { metrics: gateway.store.metrics(), asked: None, label: ABANDONED };
    match gateway.work(request, &mut tally.asked).await {
        Ok((response, label)) => {
            tally.label = label;
            response
        }
        Err(failure) => {
            tally.label = failure.label();
            tracing::debug!(result = failure.label(), "refused");
            refused(&failure)
        }
    }
}

/// Counts a request once, however it ends: a caller that leaves drops its future half-way.
struct Tally<'a> {
    metrics: &'a Metrics,
    /// When Redis was asked, if it was.
    asked: Option<Instant>,
    label: &'static str,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.metrics.count(self.label, self.asked.map(|since| since.elapsed()));
    }
}

/// The head of a request, and what it asks for.
struct Head {
    endpoint: Endpoint,
    encoding: Encoding,
    sync_token: Option<HeaderValue>,
}

impl Gateway {
    /// A response and its label in metrics. `asked` is set to the moment at which Redis is asked.
    async fn work(
        &self,
        request: Request,
        asked: &mut Option<Instant>,
    ) -> Result<(Response<Body>, &'static str), Failure> {
        let _place = self.places.try_acquire().map_err(|_| Failure::Busy)?;
        let (head, sent) = request.into_parts();
        guard::judge(&self.settings.tokens, &head.uri, &head.headers)?;
        if !matches!(head.method, Method::HEAD | Method::GET | Method::POST | Method::PUT) {
            return Err(Failure::Method(COMMAND_METHODS));
        }
        let body: Held<'_> = body::read(sent, self.settings.max_body_bytes, &self.room).await?;
        let endpoint = Endpoint::of(head.uri.path());
        let sync_token = head.headers.get(SYNC_TOKEN).filter(|token| token.len() <= LONGEST_SYNC_TOKEN).cloned();
        let shape = Head { endpoint, encoding: Encoding::asked(&head.headers), sync_token };
        let batch = match endpoint {
            Endpoint::Pipeline | Endpoint::Transaction => request::batch(&body, self.settings.max_pipeline)?,
            Endpoint::Single => vec![request::single(&body)?],
            Endpoint::Path => {
                let appended = matches!(head.method, Method::POST | Method::PUT).then_some(&*body);
                let appended = appended.filter(|body| !body.is_empty());
                vec![request::of_path(head.uri.path(), head.uri.query(), appended)?]
            }
        };
        // All are judged before any is sent: a forbidden one in third place means that nothing ran.
        let batch = batch
            .into_iter()
            .map(|command| prepare(&self.settings.commands, &self.store.scripts, command))
            .collect::<Result<Vec<_>, _>>()?;
        *asked = Some(Instant::now());
        self.run(&shape, &batch).await
    }

    async fn run(&self, shape: &Head, batch: &[Prepared<'_>]) -> Result<(Response<Body>, &'static str), Failure> {
        let (status, label, text, kind) = match (shape.endpoint, batch) {
            (Endpoint::Pipeline, batch) => {
                let outcomes = self.store.batch(batch).await?;
                (StatusCode::OK, "ok", reply::batch(&outcomes, shape.encoding), shape.encoding)
            }
            (Endpoint::Transaction, batch) => {
                let encoding = if shape.encoding == Encoding::Resp2 { Encoding::Json } else { shape.encoding };
                let outcomes = self.store.transaction(batch).await?;
                (StatusCode::OK, "ok", reply::batch(&outcomes, encoding), encoding)
            }
            (Endpoint::Single | Endpoint::Path, [command]) => {
                let outcome = self.store.one(command).await;
                let (status, label) = match &outcome {
                    Ok(_) => (StatusCode::OK, "ok"),
                    Err(failure) => (failure.status(), failure.label()),
                };
                (status, label, reply::single(&outcome, shape.encoding), shape.encoding)
            }
            _ => return Err(Failure::Malformed("empty command".to_owned())),
        };
        let mut response = answer(status, kind.content_type(), text);
        if let Some(token) = &shape.sync_token {
            response.headers_mut().insert(SYNC_TOKEN, token.clone());
        }
        Ok((response, label))
    }
}

fn refused(failure: &Failure) -> Response<Body> {
    let mut response = answer(failure.status(), "application/json", reply::failed(failure));
    if failure.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Failure::Method(allowed) = failure {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

fn answer(status: StatusCode, content_type: &'static str, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
