//! Who may ask: bearer tokens, and what keeps a web page in somebody's browser from asking.
//!
//! Without a token the gateway is for this machine only, and every page that a browser on this machine opens can send it
//! requests. So then the Host must be loopback (against DNS rebinding) and the body must be called JSON (a page may not send
//! that to another site unasked). An Origin header is refused always: a token in a web page is no secret.
//! Not here: what may be asked (`commands`).

use std::net::IpAddr;
use std::path::Path;

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use subtle::{Choice, ConstantTimeEq as _};

use crate::failure::Failure;

/// Shorter tokens can be guessed.
const SHORTEST_TOKEN: usize = 16;
/// Longer ones would not fit into a header line that proxies pass.
const LONGEST_TOKEN: usize = 4_096;
/// Enough for the old and the new one of a rotation, for a few callers.
const MOST_TOKENS: usize = 16;

/// The accepted tokens; none means that no token is asked for. No `Debug`: they are secrets.
#[derive(Default)]
pub struct Tokens(Vec<String>);

impl Tokens {
    /// From `--token` or `--token-file`.
    ///
    /// # Errors
    /// What is wrong with the flag or the file; never the token.
    pub fn read(token: Option<String>, file: Option<&Path>) -> Result<Self, String> {
        let (source, tokens) = match (token, file) {
            (Some(_), Some(_)) => return Err("--token and --token-file: give one of the two".to_owned()),
            (Some(token), None) => ("--token".to_owned(), vec![token]),
            (None, Some(path)) => {
                let source = format!("--token-file {}", path.display());
                let text = std::fs::read_to_string(path).map_err(|error| format!("{source}: {error}"))?;
                let tokens: Vec<String> =
                    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
                if tokens.is_empty() {
                    return Err(format!("{source}: no token in it; one a line is expected"));
                }
                (source, tokens)
            }
            (None, None) => return Ok(Self::default()),
        };
        if tokens.len() > MOST_TOKENS {
            return Err(format!("{source}: {} tokens; at most {MOST_TOKENS} are allowed", tokens.len()));
        }
        for token in &tokens {
            if !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&token.len()) {
                return Err(format!(
                    "{source}: a token has at least {SHORTEST_TOKEN} and at most {LONGEST_TOKEN} characters; make one \
                     with `openssl rand -hex 32`"
                ));
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("{source}: a token has visible ASCII characters only, and no spaces"));
            }
        }
        Ok(Self(tokens))
    }

    /// Whether no token is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `given` is one of them. Takes equally long wherever it differs, whichever it is.
    fn accept(&self, given: &[u8]) -> bool {
        let found = self.0.iter().fold(Choice::from(0), |found, token| found | token.as_bytes().ct_eq(given));
        found.into()
    }
}

/// Judges a command request by its head, before its body is read.
///
/// # Errors
/// `Unauthorized`, `TokenInUrl` or `FromBrowser`.
pub fn judge(tokens: &Tokens, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Failure::FromBrowser("requests from web pages (with Origin) are not served"));
    }
    if names_token(uri) {
        return Err(Failure::TokenInUrl);
    }
    if tokens.is_empty() {
        judge_host(uri, headers)?;
        if !is_json(headers) {
            return Err(Failure::FromBrowser("without a token, Content-Type must be application/json"));
        }
        return Ok(());
    }
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) if bearer(line.as_bytes()).is_some_and(|given| tokens.accept(given)) => Ok(()),
        _ => Err(Failure::Unauthorized),
    }
}

/// Judges a request that needs no token (`/healthz`, `/metrics`): where no token protects, a rebound name is refused too.
///
/// # Errors
/// `FromBrowser`.
pub fn judge_open(tokens: &Tokens, uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Failure::FromBrowser("requests from web pages (with Origin) are not served"));
    }
    if tokens.is_empty() { judge_host(uri, headers) } else { Ok(()) }
}

fn judge_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    // HTTP/2 has it in `:authority`, HTTP/1 in Host; where both are there, both must be right.
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = authority.into_iter().chain(headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes));
    let first = hosts.next();
    if first.is_some_and(is_loopback) && hosts.all(is_loopback) {
        Ok(())
    } else {
        Err(Failure::FromBrowser("without a token, Host must be localhost or a loopback address"))
    }
}

fn is_loopback(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(inside, _)| inside),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let media_type = line.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn bearer(line: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = line.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Upstash takes `?_token=`; here a URL must not carry one, under any spelling of the name.
fn names_token(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| {
        query.split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            percent_encoding::percent_decode_str(name).eq(b"_token".iter().copied())
        })
    })
}

#[cfg(test)]
mod tests;
