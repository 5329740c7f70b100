//! The status page: one HTML document on loopback, and a relay of its calls to the proxy's admin API, so that the proxy
//! need not trust another origin. The server holds no token: whoever opens the page types it, and each call carries it.
//! Not here: what is shown (`page.html`, `page.css` and the scripts beside `page.rs`).

mod guard;
mod page;
mod relay;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::net::TcpListener;

use crate::remote::AdminApi;
use page::Page;
use relay::Relay;

struct Site {
    page: Page,
    relay: Relay,
    own: SocketAddr,
}

/// Serves until the process ends.
///
/// # Errors
/// When the listener is gone.
pub(crate) async fn serve(listener: TcpListener, api: AdminApi) -> std::io::Result<()> {
    let own = listener.local_addr()?;
    let site = Arc::new(Site { page: Page::new(&api.base), relay: Relay::new(api), own });
    axum::serve(listener, Router::new().fallback(answer).with_state(site)).await
}

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let mut response = match guard::judge(&request, site.own) {
        Err(refusal) => problem(refusal.status(), refusal.message()),
        Ok(()) => match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => site.page.response(),
            (_, "/") => problem(StatusCode::METHOD_NOT_ALLOWED, "This is a page: GET it."),
            (_, path) if path.starts_with("/v1/") => site.relay.pass_on(request).await,
            _ => problem(StatusCode::NOT_FOUND, "There is nothing here."),
        },
    };
    // On every answer, so that none of them is ever a page of somebody else's making.
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, site.page.content_security_policy()),
        (header::CACHE_CONTROL, &HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, &HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, &HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, &HeaderValue::from_static("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), &HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), &HeaderValue::from_static("same-origin")),
    ] {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// What went wrong, as the admin API says such things.
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({"type": "about:blank", "status": status.as_u16(), "detail": detail});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
