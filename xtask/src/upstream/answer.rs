//! What the upstream answers to one request.
//! Not here: listening, and remembering arrivals (the parent module).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::{Arrival, KEPT_BODY, State};
use crate::envoy::fetch::hex_sha256;

/// Longest delay that a path may ask for.
const MAX_DELAY: Duration = Duration::from_mins(1);

type Reply = Response<BoxBody<Bytes, Infallible>>;

pub(super) async fn answer(mut request: Request<Incoming>, state: Arc<State>) -> Result<Reply, hyper::Error> {
    let upgrade = wants_websocket(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let body = if upgrade.is_some() { Bytes::new() } else { body.collect().await?.to_bytes() };
    let path = head.uri.path_and_query().map_or_else(|| head.uri.to_string(), ToString::to_string);
    let must_fail = state.arrived(Arrival {
        time: SystemTime::now(),
        method: head.method.to_string(),
        path: path.clone(),
        headers: head.headers.clone(),
        body: body.slice(..body.len().min(KEPT_BODY)),
    });

    if let Some(delay) = number_after(&path, "/delay/") {
        tokio::time::sleep(Duration::from_millis(delay).min(MAX_DELAY)).await;
    }
    if let Some(upgrade) = upgrade {
        tokio::spawn(echo(upgrade));
        return Ok(switching_protocols());
    }
    if is_grpc(&head.headers) && !must_fail {
        return Ok(grpc(body));
    }
    let asked = number_after(&path, "/status/").and_then(|status| u16::try_from(status).ok());
    let status = asked.and_then(|status| StatusCode::from_u16(status).ok()).filter(|status| status.as_u16() >= 200);
    let status = if must_fail { StatusCode::SERVICE_UNAVAILABLE } else { status.unwrap_or(StatusCode::OK) };
    let report = json!({
        "method": head.method.as_str(),
        "path": path,
        "headers": listed(&head.headers),
        "body_bytes": body.len(),
        "body_sha256": hex_sha256(&body),
    });
    // Over HTTP/2 a body in answer to HEAD is a protocol error.
    let text = if head.method == Method::HEAD { Bytes::new() } else { Bytes::from(report.to_string()) };
    let mut reply = Response::new(Full::new(text).boxed());
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(reply)
}

/// The number that follows the prefix, such as 503 in `/status/503/why?x=1`.
fn number_after(path: &str, prefix: &str) -> Option<u64> {
    let rest = path.strip_prefix(prefix)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn listed(headers: &HeaderMap) -> BTreeMap<&str, Vec<String>> {
    let mut map: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        map.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    map
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The request's message sent back. A body that is one gRPC frame is one gRPC frame.
fn grpc(body: Bytes) -> Reply {
    let trailers =
        HeaderMap::from_iter([(hyper::header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(body).with_trailers(async move { Some(Ok(trailers)) });
    let mut reply = Response::new(body.boxed());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    reply
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Without `sec-websocket-accept`: neither Envoy nor our tests check it, and a browser is not expected here.
fn switching_protocols() -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()).boxed());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    reply.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    reply
}

async fn echo(upgrade: hyper::upgrade::OnUpgrade) {
    if let Ok(upgraded) = upgrade.await {
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        // Ends with the connection, however that ends.
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    }
}
