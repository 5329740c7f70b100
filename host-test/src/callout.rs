//! HTTP and gRPC calls that plugins make: recorded as pending, answered by the test, by their timeout, or refused at
//! once by the cluster. No network is involved.

use crate::headers::Headers;
use crate::message::Response;
use crate::thread::Thread;

/// A cluster that plugins may call. Clusters that the host was not told of answer `BadArgument`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Takes this many calls at once from each worker; one more is refused with `InternalFailure`. Envoy's default is
    /// 1024.
    Healthy {
        /// The most calls that may be under way.
        max_requests: usize,
    },
    /// No healthy host: every call is refused with `InternalFailure`, without a callback.
    NoHealthyHost,
}

/// What kind of call it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalloutKind {
    /// `proxy_http_call`.
    Http,
    /// `proxy_grpc_call`: one request, one answer.
    GrpcCall {
        /// Service and method, `package.Service/Method`.
        method: String,
    },
    /// `proxy_grpc_stream`.
    GrpcStream {
        /// Service and method, `package.Service/Method`.
        method: String,
        /// What the plugin has sent so far.
        sent: Vec<Vec<u8>>,
        /// Whether the plugin has closed its side.
        closed: bool,
    },
}

/// A call under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// The thread that made it.
    pub thread: Thread,
    /// The token that the plugin got; unique in one VM.
    pub token: u32,
    /// HTTP or gRPC.
    pub kind: CalloutKind,
    /// The cluster, or the gRPC service's bytes shown as text.
    pub cluster: String,
    /// Headers, or gRPC initial metadata.
    pub headers: Headers,
    /// Body, or gRPC message.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Headers,
    /// Timeout in milliseconds, 0 for none.
    pub timeout_ms: u32,
    pub(crate) vm: usize,
}

impl Callout {
    /// The `:path` as text.
    pub fn path(&self) -> String {
        self.headers.text(":path").unwrap_or_default()
    }
}

/// How a call ends (or, for gRPC streams, goes on).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The cluster answers.
    Response(Response),
    /// Nothing came in time: Envoy makes a 504 with three headers.
    Timeout,
    /// Nobody listens: Envoy makes a 503 with three headers.
    Refused,
    /// Reset on the way: the plugin is told of no headers.
    Reset,
    /// gRPC: initial metadata.
    GrpcInitial(Headers),
    /// gRPC: a message; it ends a `GrpcCall`.
    GrpcMessage(Vec<u8>),
    /// gRPC: trailing metadata.
    GrpcTrailing(Headers),
    /// gRPC: closed with this status and message.
    GrpcClose(u32, String),
}

/// A call in the VM that made it.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The root context that is called back.
    pub(crate) context: u32,
    /// When it times out, microseconds of steady time.
    pub(crate) due: Option<u64>,
    pub(crate) callout: Callout,
}

impl Answer {
    /// The response that the plugin sees of an HTTP answer; `None` for a reset.
    pub(crate) fn as_response(&self) -> Option<Response> {
        let made = |status, text: &str| {
            Response::new(status)
                .header("content-length", text.len().to_string())
                .header("content-type", "text/plain")
                .body(text)
        };
        match self {
            Self::Response(response) => Some(response.clone()),
            Self::Timeout => Some(made(504, "upstream request timeout")),
            Self::Refused => Some(made(
                503,
                "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
            )),
            _ => None,
        }
    }
}
