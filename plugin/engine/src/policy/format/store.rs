//! The policy format's `store`: where counters live and how a remote store is reached.

use crate::policy::shape::{Kind, Member, Shape, for_editors};
use crate::policy::text;

const MAX_KEYS: Member = Member::or(
    "max_keys",
    Shape::Integer { min: 1_024, max: 4_194_304 },
    "65536",
    "How many counters the proxy's own table is made for. Its memory is this times a constant.",
);

pub(super) const STORES: &[Kind] = &[
    Kind {
        name: "local",
        members: &[MAX_KEYS],
        doc: for_editors("In the proxy's shared data: every proxy counts for itself."),
    },
    Kind {
        name: "redis",
        members: &[
            Member::required(
                "cluster",
                Shape::Text(text::CLUSTER),
                "The proxy's cluster that reaches the HTTP gateway.",
            ),
            Member::required("authority", Shape::Text(text::AUTHORITY), "The :authority of the calls."),
            Member::required("protocol", Shape::OneOf(PROTOCOL), "What the gateway speaks."),
            Member::optional("token", Shape::Text(text::CREDENTIAL), "A bearer token for the gateway.").secret(),
            Member::optional("basic", Shape::Object(BASIC), "Basic credentials for the gateway, instead of a token."),
            Member::or(
                "timeout_ms",
                Shape::Integer { min: 1, max: 10_000 },
                "20",
                "How long a request waits for the store, in milliseconds.",
            ),
            Member::or("mode", Shape::OneOf(MODE), "\"exact\"", "How often the store is asked."),
            MAX_KEYS,
            Member::or("breaker", Shape::Object(BREAKER), "{}", "When to stop asking a store that fails."),
        ],
        doc: for_editors(
            "In Redis, reached by HTTP through tidegate-gateway, Upstash or Webdis: all proxies count together.",
        ),
    },
];

const PROTOCOL: &[(&str, &str)] =
    &[("upstash", "commands as JSON arrays: tidegate-gateway and Upstash"), ("webdis", "commands as paths: Webdis")];

const BASIC: &[Member] = &[
    Member::required("user", Shape::Text(text::BASIC_USER), "The user."),
    Member::required("password", Shape::Text(text::CREDENTIAL), "The password.").secret(),
];

const MODE: &[(&str, &str)] =
    &[("exact", "for every request"), ("lease", "for a few requests ahead, which then cost no call")];

const BREAKER: &[Member] = &[
    Member::or("failures", Shape::Integer { min: 1, max: 1_000 }, "5", "Failed calls in a row that open it."),
    Member::or("open_ms", Shape::Integer { min: 1, max: 600_000 }, "1000", "How long it stays open, in milliseconds."),
];
