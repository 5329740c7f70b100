//! The policy format's parts for those who operate a proxy: the admin API and alerts.

use crate::policy::shape::{Member, Shape};
use crate::policy::text;

pub(super) const ADMIN_API: &[Member] = &[
    Member::or("path", Shape::Text(text::ADMIN_PATH), "\"/.tidegate\"", "The path that it is served under."),
    Member::or(
        "tokens",
        Shape::List { of: &Shape::Object(TOKEN), min: 0, max: 100 },
        "[]",
        "Who may call it. Without any it is off.",
    ),
    Member::or(
        "hosts",
        Shape::List { of: &Shape::Text(text::AUTHORITY), min: 0, max: 100 },
        "[]",
        "Hosts that it is served for. Empty: every host.",
    ),
    Member::or(
        "max_override_minutes",
        Shape::Integer { min: 1, max: 366 * 24 * 60 },
        "10080",
        "The longest that an override may last, in minutes.",
    ),
];

const TOKEN: &[Member] = &[
    Member::required("name", Shape::Text(text::NAME), "Who holds the token; what is done with it carries this name."),
    Member::required(
        "role",
        Shape::OneOf(&[("read", "may look"), ("write", "may look and change")]),
        "What the token allows.",
    ),
    Member::required("sha256", Shape::Text(text::SHA256), "The SHA-256 of the token; the token itself is never here.")
        .secret(),
];

pub(super) const ALERT: &[Member] = &[
    Member::required("name", Shape::Text(text::NAME), "The alert's name, unique in the policy."),
    Member::optional("description", Shape::Text(text::PROSE), "What this alert is for, for people. Ignored."),
    Member::required("when", Shape::OneOf(WHEN), "What it watches."),
    Member::optional(
        "value",
        Shape::Number { above: 0, up_to: 10_000_000 },
        "The threshold: a share up to 1, or rejections a second. Required except for store_unhealthy.",
    ),
    Member::optional("rule", Shape::Text(text::NAME), "The rule it watches; absent: all rules together."),
    Member::or("for_seconds", Shape::Integer { min: 0, max: 86_400 }, "0", "How long the condition must hold."),
    Member::or("cooldown_seconds", Shape::Integer { min: 0, max: 604_800 }, "300", "How long it is then silent."),
    Member::optional("webhook", Shape::Object(WEBHOOK), "Where it is sent; absent: to the host's log only."),
];

const WHEN: &[(&str, &str)] = &[
    ("hit_rate_above", "the share of requests that are limited"),
    ("rejections_per_second_above", "rejections a second"),
    ("store_unhealthy", "the store fails"),
    ("top_violator_share_above", "the share of rejections that one client causes"),
];

const WEBHOOK: &[Member] = &[
    Member::required("cluster", Shape::Text(text::CLUSTER), "The proxy's cluster that reaches the receiver."),
    Member::required("authority", Shape::Text(text::AUTHORITY), "The :authority of the call."),
    Member::or("path", Shape::Text(text::REQUEST_PATH), "\"/\"", "The path of the call."),
    Member::optional("token", Shape::Text(text::CREDENTIAL), "A bearer token for the receiver.").secret(),
];
