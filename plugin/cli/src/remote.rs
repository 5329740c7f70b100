//! The admin API of a running proxy (DESIGN.md section 7): where it is, the token, and one call. What the calls mean is
//! in `commands`, how an answer is read in `answer`. The token is never shown, follows no redirect, and goes over plain HTTP to this machine only unless
//! the operator reads a warning.

mod answer;

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use ureq::http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

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

/// Where an admin API is, and how it is reached.
pub(crate) struct AdminApi {
    pub(crate) agent: ureq::Agent,
    /// What `/v1/...` is put behind.
    pub(crate) base: String,
    /// The host that is asked for, where it is not the URL's.
    host: Option<HeaderValue>,
}

impl AdminApi {
    /// Reads the address; nothing is sent.
    ///
    /// # Errors
    /// When the URL or the host is none, or the certificates cannot be read.
    pub(crate) fn at(url: &str, host: Option<&str>, ca_file: Option<&Path>) -> Result<Self, Failure> {
        let base = base(url)?;
        let host = host.map(host_header).transpose()?;
        Ok(Self { agent: agent(&base, ca_file)?, base, host })
    }

    /// A call without its token and its body; `path` begins with `/v1/`, and what it is made of is encoded.
    pub(crate) fn request(&self, method: &Method, path: &str) -> ureq::http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = request.header(header::ACCEPT, "application/json");
        self.host.iter().fold(request, |request, host| request.header(header::HOST, host))
    }
}

/// A running proxy, and who asks it.
pub(crate) struct Client {
    api: AdminApi,
    token: Option<String>,
}

/// What the proxy said.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It did it.
    Done(String),
    /// The answer is no: there is no such thing, or what was sent is no rule. With its reasons.
    No(String),
}

/// The members of an answer that has none.
pub(crate) const NOTHING: &[&str] = &[];

/// Text made fit to stand in a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The path of one client's counter.
pub(crate) fn counter(rule: &str, key: &str, kind: Option<&str>) -> String {
    let kind = kind.map_or_else(String::new, |kind| format!("&kind={}", encoded(kind)));
    format!("/v1/counters?rule={}&key={}{kind}", encoded(rule), encoded(key))
}

impl Client {
    /// Reads the token; nothing is sent.
    pub(crate) fn new(api: AdminApi, token_file: Option<&Path>) -> Result<Self, Failure> {
        Ok(Self { api, token: Some(token(token_file)?) })
    }

    /// For what may be asked by anybody.
    pub(crate) fn without_token(api: AdminApi) -> Self {
        Self { api, token: None }
    }

    /// One call; `path` begins with `/v1/`, and what it is made of is encoded.
    pub(crate) fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let (agent, base) = (&self.api.agent, &self.api.base);
        let request = self.api.request(method, path);
        let bearer = self.token.iter().map(|token| format!("Bearer {token}"));
        let request = bearer.fold(request, |request, bearer| request.header(header::AUTHORIZATION, bearer));
        let failed = |error: &dyn std::fmt::Display| Failure(format!("cannot reach {base}: {error}"));
        let sent = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.to_string())
                .map_err(|error| failed(&error))
                .and_then(|request| agent.run(request).map_err(|error| failed(&error))),
            None => request
                .body(())
                .map_err(|error| failed(&error))
                .and_then(|request| agent.run(request).map_err(|error| failed(&error))),
        };
        let mut response = sent?;
        let mut text = Vec::new();
        let reader = response.body_mut().as_reader();
        reader.take(LONGEST_ANSWER).read_to_end(&mut text).map_err(|error| failed(&error))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let said = || answer::without(self.token.as_deref(), &answer::problem(response.status(), &text));
        match response.status() {
            status if status.is_success() => Ok(Reply::Done(text)),
            StatusCode::NOT_FOUND if !answer::is_about_a_name(path, &text) => Err(format!(
                "{base} answers {}: is its path the policy's admin_api.path, and its host one of admin_api.hosts? (--host \
                 NAME names another)",
                said()
            )
            .into()),
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Ok(Reply::No(said())),
            StatusCode::UNAUTHORIZED => Err("the proxy does not know this token".into()),
            _ => Err(format!("the proxy says: {}", said()).into()),
        }
    }

    /// Like [`Client::call`] where an answer in JSON is needed that has these members ([`NOTHING`]: no answer but that it
    /// is done); a "no" is told to standard error, and is `None`. The token is in no answer, whoever sends it back.
    pub(crate) fn json(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        members: &[&str],
    ) -> Result<Option<Value>, Failure> {
        match self.call(method, path, body)? {
            Reply::Done(text) => self.read(&text, members).map(Some),
            Reply::No(reason) => {
                complain(&format!("tidegate: {reason}"));
                Ok(None)
            }
        }
    }

    /// Whether there is such a thing; it has these members.
    pub(crate) fn has(&self, path: &str, members: &[&str]) -> Result<bool, Failure> {
        match self.call(&Method::GET, path, None)? {
            Reply::Done(text) => self.read(&text, members).map(|_| true),
            Reply::No(_) => Ok(false),
        }
    }

    fn read(&self, text: &str, members: &[&str]) -> Result<Value, Failure> {
        let value =
            answer::read(text, members).map_err(|wrong| format!("{} {wrong}: is it the admin API?", self.api.base))?;
        Ok(answer::value_without(self.token.as_deref(), value))
    }
}

/// What speaks to the proxy: it follows no redirect and uses no HTTP proxy of the environment.
fn agent(base: &str, ca_file: Option<&Path>) -> Result<ureq::Agent, Failure> {
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
fn base(url: &str) -> Result<String, Failure> {
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

/// What stands in the Host header: a name or an address, with a port where there is one.
fn host_header(host: &str) -> Result<HeaderValue, Failure> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let value = HeaderValue::from_str(host).ok().filter(|_| host.bytes().all(is_plain));
    value.ok_or_else(|| format!("the host {}: allowed: a name, with a port where there is one", visible(host)).into())
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
    fn hosts_are_names() {
        for good in ["proxy.internal", "other:8080", "[::1]:80"] {
            assert!(host_header(good).is_ok(), "{good}");
        }
        for bad in ["a b", "a/b", "u@a", "a\r\nx: y", "\u{e9}"] {
            assert!(host_header(bad).is_err(), "{bad:?}");
        }
        assert_eq!(counter("a b", "zo\u{eb}", Some("user")), "/v1/counters?rule=a%20b&key=zo%C3%AB&kind=user");
    }
}
