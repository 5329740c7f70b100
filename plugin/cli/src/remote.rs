//! The admin API of a running proxy (DESIGN.md section 7): where it is, the token, and one call. What the calls mean is
//! in `commands`. The token is never shown, follows no redirect, and goes over plain HTTP to this machine only unless
//! the operator reads a warning.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use ureq::http::{Method, Request, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::cli::Proxy;
use crate::failure::Failure;
use crate::screen::{complain, visible};

/// Where the admin API is unless the policy or the URL says otherwise.
const DEFAULT_PATH: &str = "/.tidegate";
/// A proxy answers from memory; one that takes longer than this does not answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No answer is longer: an audit log of thousands of entries is below a megabyte.
const LONGEST_ANSWER: u64 = 16 << 20;
/// What a path segment or a query's value may hold as it is (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A running proxy.
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    token: String,
}

/// What the proxy said.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It did it.
    Done(String),
    /// The answer is no: there is no such thing, or what was sent is no rule. With its reasons.
    No(String),
}

/// Text made fit to stand in a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

impl Client {
    /// Reads the URL and the token; nothing is sent.
    pub(crate) fn new(url: &str, proxy: &Proxy) -> Result<Self, Failure> {
        let base = base(url)?;
        let token = token(proxy.token_file.as_deref())?;
        Ok(Self { agent: agent(&base, proxy.ca_file.as_deref())?, base, token })
    }

    /// One call; `path` begins with `/v1/`, and what it is made of is encoded.
    pub(crate) fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .header("accept", "application/json");
        let failed = |error: &dyn std::fmt::Display| Failure(format!("cannot reach {}: {error}", self.base));
        let sent = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string())
                .map_err(|error| failed(&error))
                .and_then(|request| self.agent.run(request).map_err(|error| failed(&error))),
            None => request
                .body(())
                .map_err(|error| failed(&error))
                .and_then(|request| self.agent.run(request).map_err(|error| failed(&error))),
        };
        let mut response = sent?;
        let mut text = Vec::new();
        let reader = response.body_mut().as_reader();
        reader.take(LONGEST_ANSWER).read_to_end(&mut text).map_err(|error| failed(&error))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        match response.status() {
            status if status.is_success() => Ok(Reply::Done(text)),
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Reply::No(problem(response.status(), &text)))
            }
            StatusCode::UNAUTHORIZED => Err("the proxy does not know this token".into()),
            status => Err(format!("the proxy says: {}", problem(status, &text)).into()),
        }
    }

    /// Like [`Client::call`] where an answer in JSON is needed; a "no" is told to standard error, and is `None`.
    pub(crate) fn json(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Option<Value>, Failure> {
        match self.call(method, path, body)? {
            Reply::Done(text) if text.trim().is_empty() => Ok(Some(Value::Null)),
            Reply::Done(text) => match serde_json::from_str(&text) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(format!("{} does not answer in JSON: is it the admin API?", self.base).into()),
            },
            Reply::No(reason) => {
                complain(&format!("tidegate: {reason}"));
                Ok(None)
            }
        }
    }
}

/// What speaks to the proxy: it follows no redirect and uses no HTTP proxy of the environment.
///
/// # Errors
/// When the certificates cannot be read.
pub(crate) fn agent(base: &str, ca_file: Option<&Path>) -> Result<ureq::Agent, Failure> {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    if base.starts_with("https:") {
        config = config.tls_config(tls(ca_file)?);
    } else if !is_this_machine(base) {
        complain("tidegate: warning: the token goes over plain HTTP; use https, or a tunnel to this machine");
    }
    Ok(config.build().into())
}

/// The address that `/v1/...` is put behind.
///
/// # Errors
/// When the URL is none, or holds what it should not.
pub(crate) fn base(url: &str) -> Result<String, Failure> {
    let uri: Uri = url.parse().map_err(|error| Failure(format!("{}: not a URL: {error}", visible(url))))?;
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map(ureq::http::uri::Authority::as_str).unwrap_or_default();
    if !matches!(scheme, "http" | "https") || authority.is_empty() {
        return Err("the URL should begin with https:// or http:// and a host".into());
    }
    if authority.contains('@') || uri.query().is_some() {
        return Err("the URL should hold neither a password nor a query".into());
    }
    let path = uri.path().trim_end_matches('/');
    Ok(format!("{scheme}://{authority}{}", if path.is_empty() { DEFAULT_PATH } else { path }))
}

fn is_this_machine(base: &str) -> bool {
    let host = base.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The token of the file, or of `TIDEGATE_TOKEN`.
fn token(file: Option<&Path>) -> Result<String, Failure> {
    let (token, source) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, error))?;
            (text, path.display().to_string())
        }
        None => match std::env::var("TIDEGATE_TOKEN") {
            Ok(token) => (token, "TIDEGATE_TOKEN".to_owned()),
            Err(_) => return Err("the admin API needs a token: --token-file FILE, or TIDEGATE_TOKEN".into()),
        },
    };
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{source} holds no token: one word of visible ASCII characters").into());
    }
    Ok(token.to_owned())
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, Failure> {
    let certificates: Vec<CertificateDer<'static>> = match ca_file {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| Failure::file("read", path, error))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if certificates.is_empty() {
        return Err("there are no certificates to trust: name them with --ca-file FILE".into());
    }
    let roots: Vec<Certificate<'static>> =
        certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// What an answer that is no success says: RFC 9457's `detail` and `title`, and a policy's `mistakes`.
fn problem(status: StatusCode, text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let word = |name: &str| value.get(name).and_then(Value::as_str);
    let said = word("detail").or_else(|| word("title")).map(|said| visible(said).into_owned());
    let mut out = match said {
        Some(said) => format!("{said} ({})", status.as_u16()),
        None => status.to_string(),
    };
    let mistakes = ["mistakes", "errors"].iter().find_map(|name| value.get(*name)?.as_array());
    for mistake in mistakes.into_iter().flatten() {
        let member = |name: &str| mistake.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = match mistake.as_str() {
            Some(line) => line.to_owned(),
            None if mistake.get("message").is_some() => member("message").to_owned(),
            None => {
                let what = format!("found {}, allowed: {}", member("found"), member("allowed"));
                let guess = mistake.get("suggestion").and_then(Value::as_str);
                let guess = guess.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
                // A mistake of the whole body has an empty pointer.
                let place = Some(member("pointer")).filter(|pointer| !pointer.is_empty()).unwrap_or("(the document)");
                format!("{place}: {what}{guess}")
            }
        };
        out.push_str(&format!("\n  {}", visible(&line)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_bases() {
        for (url, expected) in [
            ("http://127.0.0.1:10000", Some("http://127.0.0.1:10000/.tidegate")),
            ("https://a.test/", Some("https://a.test/.tidegate")),
            ("https://a.test/admin/", Some("https://a.test/admin")),
            ("a.test", None),
            ("ftp://a.test", None),
            ("https://user:pw@a.test", None),
            ("https://a.test/?x", None),
        ] {
            assert_eq!(base(url).ok().as_deref(), expected, "{url}");
        }
        assert!(is_this_machine("http://[::1]:80/x") && is_this_machine("http://localhost/x"));
        assert!(!is_this_machine("http://192.0.2.1/x") && !is_this_machine("http://localhost.evil.test/x"));
    }

    #[test]
    fn problems_are_told_in_full_and_harmless() {
        let text = r#"{"title": "t", "detail": "no\u001b[2J",
            "mistakes": ["/rate: found 0", {"pointer": "/a", "found": "1", "allowed": "2"}]}"#;
        let told = problem(StatusCode::UNPROCESSABLE_ENTITY, text);
        assert_eq!(told, "no\\u{1b}[2J (422)\n  /rate: found 0\n  /a: found 1, allowed: 2");
        assert_eq!(problem(StatusCode::BAD_GATEWAY, "<html>"), "502 Bad Gateway");
        assert_eq!(encoded("a/b?c&\u{e9}"), "a%2Fb%3Fc%26%C3%A9");
    }
}
