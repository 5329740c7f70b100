//! The policy format's options of the built-in strategies.

use crate::policy::shape::{Member, Shape};
use crate::policy::text;

/// `hard` and `retry_after`.
pub(crate) const REJECT: &[Member] = &[
    Member::or("status", Shape::Integer { min: 400, max: 599 }, "429", "The HTTP status."),
    Member::optional(
        "body",
        Shape::Content,
        "The body: a string is sent as text, an object or list as JSON; absent: application/problem+json.",
    ),
];

/// `throttle`.
pub(crate) const THROTTLE: &[Member] = &[
    Member::or(
        "max_delay_ms",
        Shape::Integer { min: 1, max: 600_000 },
        "2000",
        "The longest that a request is held, in milliseconds. Beyond it is refused.",
    ),
    Member::or("max_waiting", Shape::Integer { min: 1, max: 100_000 }, "256", "How many requests a worker may hold."),
    Member::or(
        "max_waiting_per_key",
        Shape::Integer { min: 1, max: 100_000 },
        "32",
        "How many requests of one client a worker may hold.",
    ),
];

/// `queue`.
pub(crate) const QUEUE: &[Member] = &[
    Member::required("cluster", Shape::Text(text::CLUSTER), "The proxy's cluster that carries jobs out."),
    // A user and a password may have been written before it.
    Member::required("authority", Shape::Text(text::AUTHORITY), "The :authority of the calls.").secret(),
    Member::or("max_queued", Shape::Integer { min: 1, max: 1_000_000 }, "1000", "How many jobs may wait."),
    Member::or("max_body_bytes", Shape::Integer { min: 0, max: 1_048_576 }, "65536", "The largest request body."),
    Member::or(
        "headers",
        Shape::List { of: &Shape::Text(text::TOKEN), min: 0, max: 64 },
        "[]",
        "Names of the request headers that a job keeps.",
    ),
    Member::or("max_attempts", Shape::Integer { min: 1, max: 100 }, "5", "How often a job is tried."),
    Member::or(
        "backoff_ms",
        Shape::Integer { min: 1, max: 3_600_000 },
        "1000",
        "The wait before the second try; it doubles.",
    ),
    Member::or("timeout_ms", Shape::Integer { min: 1, max: 600_000 }, "15000", "How long one try may take."),
    Member::or(
        "max_wait_seconds",
        Shape::Integer { min: 1, max: 604_800 },
        "3600",
        "How long a job may wait for its turn.",
    ),
    Member::or("result_ttl_seconds", Shape::Integer { min: 1, max: 604_800 }, "600", "How long a result is kept."),
    Member::or("max_result_bytes", Shape::Integer { min: 0, max: 1_048_576 }, "65536", "How much of a result is kept."),
    Member::or(
        "full_status",
        Shape::Integer { min: 400, max: 599 },
        "429",
        "The HTTP status when no job can be taken.",
    ),
    Member::or(
        "allow_unverified",
        Shape::Boolean,
        "false",
        "Whether jobs of users that nobody has verified are taken. They pass no later filter.",
    ),
];

/// `graceful`.
pub(crate) const GRACEFUL: &[Member] = &[
    Member::optional(
        "forward",
        Shape::Object(FORWARD),
        "Send the request on in a reduced form. Either this or respond.",
    ),
    Member::optional("respond", Shape::Object(RESPOND), "Answer with a reduced form. Either this or forward."),
    Member::or(
        "ceiling",
        Shape::Number { above: 1, up_to: 100 },
        "2.0",
        "Up to how many times the rate requests get the reduced form; beyond they are refused.",
    ),
];

const HEADERS: Member =
    Member::or("headers", Shape::Headers { max: 32 }, "{}", "Headers to set: their names with their values.");

const FORWARD: &[Member] = &[
    HEADERS,
    Member::optional("path", Shape::Text(text::REQUEST_PATH), "The path to ask for instead."),
    Member::optional(
        "cluster_header",
        Shape::Object(CLUSTER_HEADER),
        "Send it to another cluster, by the header that the route's cluster_header names.",
    ),
];

const CLUSTER_HEADER: &[Member] = &[
    Member::required("name", Shape::Text(text::TOKEN), "The header that the route takes its cluster from."),
    Member::required("cluster", Shape::Text(text::CLUSTER), "The cluster to send it to."),
];

const RESPOND: &[Member] = &[
    Member::or("status", Shape::Integer { min: 200, max: 599 }, "200", "The HTTP status."),
    HEADERS,
    Member::optional("body", Shape::Content, "The body: a string is sent as text, an object or list as JSON."),
];
