//! Which requests are the page's own. Any site that a browser on this machine opens can send requests to loopback: so
//! the Host must be this server's own loopback name (against DNS rebinding), and an Origin, where there is one, must be
//! the page's. Calls need the token besides, which no other site has.
//! Not here: which calls there are (`relay`).

use std::net::SocketAddr;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};

/// Why a request is none of the page's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It was meant for another host, or does not say for which.
    Host,
    /// Another site's page sent it.
    Origin,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Host => "Open the page by the address that was printed.",
            Self::Origin => "Only the page itself may call.",
        }
    }
}

/// Whether the request is the page's, or a browser's own that opens it.
pub(super) fn judge(request: &Request, own: SocketAddr) -> Result<(), Refusal> {
    // `GET http://elsewhere/ HTTP/1.1` names a host before the header does.
    if request.uri().authority().is_some() {
        return Err(Refusal::Host);
    }
    judge_headers(request.headers(), own)
}

fn judge_headers(headers: &HeaderMap, own: SocketAddr) -> Result<(), Refusal> {
    let host = only(headers, &header::HOST).map_err(|()| Refusal::Host)?.ok_or(Refusal::Host)?;
    let names = ["localhost", "127.0.0.1", "[::1]"].map(|name| format!("{name}:{}", own.port()));
    // A browser leaves off the port that http has by default.
    let bare = ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| own.port() == 80 && host == *name);
    if !bare && host != own.to_string() && !names.iter().any(|name| host.eq_ignore_ascii_case(name)) {
        return Err(Refusal::Host);
    }
    match only(headers, &header::ORIGIN).map_err(|()| Refusal::Origin)? {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => return Err(Refusal::Origin),
        _ => {}
    }
    // Browsers say where a request comes from even where they send no Origin, as for a link or an image.
    match only(headers, &HeaderName::from_static("sec-fetch-site")).map_err(|()| Refusal::Origin)? {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(Refusal::Origin),
    }
}

/// A header's value where it comes once; `Err` where it comes again or is no text.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[(&'static str, &'static str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        judge_headers(&headers, "127.0.0.1:8080".parse().unwrap())
    }

    #[test]
    fn only_the_pages_own_requests_pass() {
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080"] {
            assert_eq!(judged(&[("host", host)]), Ok(()), "{host}");
        }
        for host in ["", "evil.test", "evil.test:8080", "127.0.0.1", "localhost:80", "127.0.0.1.evil.test:8080"] {
            assert_eq!(judged(&[("host", host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(judged(&[]), Err(Refusal::Host));
        assert_eq!(judged(&[("host", "127.0.0.1:8080"), ("host", "evil.test")]), Err(Refusal::Host));
        let with = |name, value| judged(&[("host", "localhost:8080"), (name, value)]);
        assert_eq!(with("origin", "http://localhost:8080"), Ok(()));
        assert_eq!(with("sec-fetch-site", "same-origin"), Ok(()));
        for origin in ["https://evil.test", "null", "http://localhost:8081", "http://127.0.0.1:8080", ""] {
            assert_eq!(with("origin", origin), Err(Refusal::Origin), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(with("sec-fetch-site", site), Err(Refusal::Origin), "{site}");
        }
    }
}
