//! Every way a request can fail, with its HTTP status and the text that the caller sees.
//! Not here: failures at start, which are sentences for the operator.

use std::borrow::Cow;

use axum::http::StatusCode;
use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};

/// Why a request was not answered with a result. `Clone`, since one failure may answer several commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request cannot be read: what was found and what is allowed.
    Malformed(String),
    /// The command or script is not on the list.
    NotAllowed(String),
    /// Redis answered with this error.
    Store(String),
    /// No token, or not one of ours.
    Unauthorized,
    /// A token in the URL, where logs would keep it.
    TokenInUrl,
    /// What a browser would send.
    FromBrowser(&'static str),
    /// A method that the path does not have; those that it has.
    Method(&'static str),
    /// The body did not arrive in time.
    SlowBody,
    /// The body is above `--max-body-bytes`.
    LargeBody,
    /// `--max-in-flight` requests are being worked on, or their bodies take `--max-body-memory`.
    Busy,
    /// No connection to Redis.
    Unreachable,
    /// A reply that is not in Redis's protocol, or nests deeper than the client library reads. It ends the connection.
    Unreadable,
    /// Redis did not answer within `--timeout-ms`. What was sent may still be carried out.
    TimedOut,
}

impl Failure {
    /// The HTTP status: 400, 401 and 405 as Upstash documents them, the rest as HTTP means them.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::NotAllowed(_) | Self::Store(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized | Self::TokenInUrl => StatusCode::UNAUTHORIZED,
            Self::FromBrowser(_) => StatusCode::FORBIDDEN,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::LargeBody => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable => StatusCode::BAD_GATEWAY,
            Self::Busy | Self::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The text of the `error` member. Starts with a code word, as Redis's own errors do.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Malformed(text) => Cow::Owned(format!("ERR {text}")),
            Self::NotAllowed(text) => Cow::Owned(format!("NOPERM {text}")),
            Self::Store(text) => Cow::Borrowed(text),
            Self::Unauthorized => Cow::Borrowed("Unauthorized"),
            Self::TokenInUrl => {
                Cow::Borrowed("Unauthorized: a token in the URL ends up in logs; send `Authorization: Bearer`")
            }
            Self::FromBrowser(why) => Cow::Owned(format!("Forbidden: {why}")),
            Self::Method(allowed) => Cow::Owned(format!("ERR method not allowed; use one of {allowed}")),
            Self::SlowBody => Cow::Borrowed("ERR the body did not arrive in time"),
            Self::LargeBody => Cow::Borrowed("ERR the body is larger than this gateway takes"),
            Self::Busy => Cow::Borrowed("OVERLOADED this gateway works on as many requests as it may"),
            Self::Unreachable => Cow::Borrowed("UNREACHABLE no connection to Redis"),
            Self::Unreadable => {
                Cow::Borrowed("UNREADABLE the reply of Redis nests deeper than 100 arrays, or is none; it may have run")
            }
            Self::TimedOut => Cow::Borrowed("TIMEOUT Redis did not answer in time"),
        }
    }

    /// The label of this failure in metrics and logs: a fixed set of words.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::NotAllowed(_) => "not_allowed",
            Self::Store(_) => "store_error",
            Self::Unauthorized | Self::TokenInUrl => "unauthorized",
            Self::FromBrowser(_) => "forbidden",
            Self::Method(_) => "method",
            Self::SlowBody => "slow_body",
            Self::LargeBody => "large_body",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Unreadable => "unreadable",
            Self::TimedOut => "timed_out",
        }
    }
}

/// The text that Redis sent over the wire: `CODE detail`. The library keeps the two apart.
pub fn server_text(error: &ServerError) -> String {
    wire_text(error.code(), error.details())
}

fn wire_text(code: &str, detail: Option<&str>) -> String {
    detail.map_or_else(|| code.to_owned(), |detail| format!("{code} {detail}"))
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        match (error.code(), error.kind()) {
            // What the library itself says about a batch that spans slots has a code and no detail.
            (Some("CROSSSLOT"), _) if error.detail().is_none() => {
                Self::Store("CROSSSLOT Keys in request don't hash to the same slot".to_owned())
            }
            // A transaction with a command that could not be queued: Redis's own text, and which command it was.
            (Some("EXECABORT"), _) => Self::Store(aborted(error)),
            (Some(code), _) => Self::Store(wire_text(code, error.detail())),
            (None, ErrorKind::Parse) => Self::Unreadable,
            (None, _) if error.is_timeout() => Self::TimedOut,
            _ => Self::Unreachable,
        }
    }
}

fn aborted(error: RedisError) -> String {
    let cause = error.into_server_errors().and_then(|errors| {
        let (index, cause) = errors.first()?;
        Some(format!(" (command {index}: {})", server_text(cause)))
    });
    format!("EXECABORT Transaction discarded because of previous errors.{}", cause.unwrap_or_default())
}

/// Whether Redis turned our credentials down: waiting will not help, an operator must act.
pub fn is_rejection(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

/// Whether a replica refused to write: what was asked has changed nothing. A transaction says so of the command that it
/// could not queue.
pub fn is_read_only(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly) => true,
        ErrorKind::Server(ServerErrorKind::ExecAbort) => {
            let causes = error.clone().into_server_errors();
            causes.is_some_and(|causes| causes.iter().any(|(_, cause)| cause.code() == "READONLY"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_errors_keep_their_text() {
        let parsed = redis::parse_redis_value(b"-NOSCRIPT No matching script. Please use EVAL.\r\n").unwrap();
        let error = parsed.extract_error().unwrap_err();
        assert_eq!(Failure::from(error).text(), "NOSCRIPT No matching script. Please use EVAL.");
        let parsed = redis::parse_redis_value(b"-WRONGTYPE Operation against a key\r\n").unwrap();
        assert_eq!(Failure::from(parsed.extract_error().unwrap_err()).text(), "WRONGTYPE Operation against a key");
    }

    #[test]
    fn io_errors_are_not_the_callers_fault() {
        let io = |kind| Failure::from(RedisError::from(std::io::Error::from(kind)));
        assert_eq!(io(std::io::ErrorKind::TimedOut), Failure::TimedOut);
        assert_eq!(io(std::io::ErrorKind::ConnectionRefused), Failure::Unreachable);
        assert_eq!(Failure::Unreachable.status(), 503);
        assert_eq!(Failure::TimedOut.status(), 504);
    }
}
