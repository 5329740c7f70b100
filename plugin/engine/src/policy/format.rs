//! The policy format, version 1, as one table: every member with its shape, range, default and meaning.
//! It is checked by `walk`, becomes the JSON Schema in `schema`, and a test compares it with docs/policy.md.
//! What no table can say (a name that must exist, a burst that depends on a rate) is in `build`, `rule` and `relations`.

mod operate;
pub(crate) mod options;
mod store;

use super::shape::{Kind, Member, Shape, for_editors};
use super::text;
use operate::{ADMIN_API, ALERT};
use store::STORES;

/// The most rules a policy may have.
pub(super) const MOST_RULES: usize = 1_000;
/// The most values in one of a rule's lists.
const MOST_VALUES: usize = 10_000;
/// The longest window: 366 days.
const LONGEST_WINDOW: i64 = 366 * 24 * 3600;
/// The highest rate: what the engine and a Redis script both compute exactly.
const HIGHEST_RATE: i64 = 10_000_000;

/// The whole document.
pub(super) static DOCUMENT: Shape = Shape::Object(&[
    Member::optional("$schema", Shape::Text(text::PROSE), "Where this format's schema lies, for editors. Ignored."),
    Member::optional("description", Shape::Text(text::PROSE), "What this policy is for, for people. Ignored."),
    Member::required("version", Shape::Integer { min: 1, max: 1 }, "The version of this format: 1."),
    Member::or(
        "namespace",
        Shape::Text(text::NAME),
        "\"default\"",
        "Separates deployments that share a store. Changing it starts every counter afresh.",
    ),
    Member::or("defaults", Shape::Object(DEFAULTS), "{}", "What rules that do not say otherwise use."),
    Member::or("paths", Shape::OneOf(PATHS), "\"exact\"", "How paths are compared with endpoints."),
    Member::or("identity", Shape::Object(IDENTITY), "{}", "Who a request counts against."),
    Member::required(
        "rules",
        Shape::List { of: &Shape::Object(RULE), min: 0, max: MOST_RULES },
        "The limits. All that match a request apply.",
    ),
    Member::or("admins", Shape::Object(ADMINS), "{}", "Whose requests are counted but never limited."),
    Member::or("store", Shape::Typed(STORES), "{\"type\": \"local\"}", "Where the counters live."),
    Member::or("headers", Shape::OneOf(HEADERS), "\"draft11\"", "Which rate-limit headers responses carry."),
    Member::optional("admin_api", Shape::Object(ADMIN_API), "The admin API; absent or without tokens it is off."),
    Member::or("alerts", Shape::List { of: &Shape::Object(ALERT), min: 0, max: 100 }, "[]", "When to call for people."),
]);

const DEFAULTS: &[Member] = &[
    Member::or("algorithm", Shape::Algorithm, "\"token_bucket\"", "The algorithm of rules that name none."),
    Member::or("strategy", Shape::Strategy, "\"retry_after\"", "The strategy of rules that name none."),
];

const PATHS: &[(&str, &str)] = &[
    ("exact", "to the letter, in both readings of a path"),
    ("loose", "also ignoring case and trailing dots and spaces"),
];

const HEADERS: &[(&str, &str)] = &[
    ("draft11", "RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers-11"),
    ("legacy", "X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset"),
    ("both", "both of them"),
    ("off", "none"),
];

const IDENTITY: &[Member] = &[
    Member::or(
        "user",
        Shape::List { of: &Shape::ByMember(USER_SOURCES), min: 0, max: 16 },
        "[{\"metadata\": [\"envoy.filters.http.jwt_authn\", \"payload\", \"sub\"]}]",
        "Where a user's id is looked for, in order; the first that yields a value counts.",
    ),
    Member::or(
        "anonymous",
        Shape::OneOf(ANONYMOUS),
        "\"per_ip\"",
        "What a per-user rule does with a request without user.",
    ),
    Member::or("ip", Shape::Object(IP), "{}", "Which address a request counts against."),
];

const ANONYMOUS: &[(&str, &str)] =
    &[("per_ip", "counts it under its address"), ("shared", "counts all of them as one"), ("skip", "does not apply")];

const USER_SOURCES: &[Kind] = &[
    Kind {
        name: "metadata",
        members: &[Member::required(
            "metadata",
            Shape::List { of: &Shape::Text(text::IDENTIFIER), min: 2, max: 8 },
            "The filter's name and the keys down to the value in the host's dynamic metadata.",
        )],
        doc: for_editors("A value that a filter before this one has put into the host's dynamic metadata. Verified."),
    },
    Kind {
        name: "cookie",
        members: &[Member::required("cookie", Shape::Text(text::TOKEN), "The cookie's name.")],
        doc: for_editors("A cookie. Not verified."),
    },
    Kind {
        name: "jwt_claim",
        members: &[
            Member::required("jwt_claim", Shape::Text(text::IDENTIFIER), "The claim's name."),
            Member::or("header", Shape::Text(text::TOKEN), "\"authorization\"", "The header that carries the token."),
            Member::required(
                "trust",
                Shape::OneOf(&[("unverified", "nobody has checked the token's signature")]),
                "Must be written, as a reminder: whoever makes up a token is whom it names.",
            ),
        ],
        doc: for_editors("A claim of a JWT whose signature nobody has checked. Not verified."),
    },
    Kind {
        name: "header",
        members: &[
            Member::required("header", Shape::Text(text::TOKEN), "The header's name, in any case."),
            Member::or("trust", Shape::OneOf(TRUST), "\"unverified\"", "Whether clients can forge it."),
        ],
        doc: for_editors("A request header."),
    },
];

const TRUST: &[(&str, &str)] = &[
    ("unverified", "a client may send what it likes"),
    ("verified", "a filter before this one sets or checks it and strips a client's copy"),
];

const IP: &[Member] = &[
    Member::or("from", Shape::Either(IP_FROM), "\"connection\"", "Where the address comes from."),
    Member::or("ipv4_prefix", Shape::Integer { min: 1, max: 32 }, "32", "How many bits of an IPv4 address count."),
    Member::or("ipv6_prefix", Shape::Integer { min: 1, max: 128 }, "64", "How many bits of an IPv6 address count."),
];

const IP_FROM: &[Shape] = &[Shape::OneOf(&[("connection", "the host's peer address")]), Shape::Object(FORWARDED)];

const FORWARDED: &[Member] = &[Member::required(
    "x_forwarded_for",
    Shape::Object(TRUSTED_HOPS),
    "The address in x-forwarded-for, counted from the right; the peer's where the header is malformed.",
)];

const TRUSTED_HOPS: &[Member] = &[Member::required(
    "trusted_hops",
    Shape::Integer { min: 1, max: 32 },
    "How many proxies of your own have added an entry.",
)];

const USERS: Shape = Shape::List { of: &Shape::Text(text::IDENTIFIER), min: 0, max: MOST_VALUES };
const RANGES: Shape = Shape::List { of: &Shape::Text(text::ADDRESS_RANGE), min: 0, max: MOST_VALUES };

const ADMINS: &[Member] = &[
    Member::or("user_ids", USERS, "[]", "Verified user ids."),
    Member::or("ip_addresses", RANGES, "[]", "Addresses and ranges of addresses."),
];

pub(super) const RULE: &[Member] = &[
    Member::required("name", Shape::Text(text::NAME), "The rule's name, unique in the policy."),
    Member::optional("description", Shape::Text(text::PROSE), "What this rule is for, for people. Ignored."),
    Member::required("scope", Shape::OneOf(SCOPE), "What the rule counts by."),
    Member::required("rate", Shape::Integer { min: 1, max: HIGHEST_RATE }, "Units of cost admitted per window."),
    Member::required(
        "window_seconds",
        Shape::Integer { min: 1, max: LONGEST_WINDOW },
        "The window's length in seconds.",
    ),
    Member::optional(
        "burst",
        Shape::Integer { min: 1, max: 2 * HIGHEST_RATE },
        "The bucket's capacity: how much may come at once. At most twice the rate; absent: the rate.",
    ),
    Member::optional("algorithm", Shape::Algorithm, "How it is counted; absent: as in defaults."),
    Member::optional("strategy", Shape::Strategy, "What happens to a limited request; absent: as in defaults."),
    Member::or(
        "endpoints",
        Shape::List { of: &Shape::Text(text::ENDPOINT), min: 0, max: MOST_VALUES },
        "[]",
        "Paths, any of which matches; {name} stands for one segment, a last * for everything below. Empty: every path.",
    ),
    Member::or(
        "methods",
        Shape::List { of: &Shape::Text(text::TOKEN), min: 0, max: 64 },
        "[]",
        "Methods in any case, any of which matches; GET covers HEAD. Empty: every method.",
    ),
    Member::or("user_ids", USERS, "[]", "Verified user ids, any of which matches. Empty: everybody."),
    Member::or("ip_addresses", RANGES, "[]", "Addresses and ranges, any of which matches. Empty: every address."),
    Member::or(
        "priority",
        Shape::Integer { min: -1_000_000, max: 1_000_000 },
        "0",
        "Among rules that limit a request equally strictly, the one with the largest decides how it is answered.",
    ),
    Member::or("enabled", Shape::Boolean, "true", "A rule that is not enabled matches nothing."),
    Member::or("mode", Shape::OneOf(MODE), "\"enforce\"", "Whether the rule acts."),
    Member::or(
        "cost",
        Shape::Integer { min: 0, max: HIGHEST_RATE },
        "1",
        "Units that one request takes, at most the rate; 0 takes nothing and is never limited.",
    ),
    Member::or(
        "replaces",
        Shape::List { of: &Shape::Text(text::NAME), min: 0, max: MOST_RULES },
        "[]",
        "Names of rules that this one switches off where it matches.",
    ),
    Member::or("on_store_error", Shape::OneOf(ON_STORE_ERROR), "\"local\"", "What decides when the store fails."),
    Member::or(
        "local_share",
        Shape::Number { above: 0, up_to: 1 },
        "1.0",
        "The share of the quota that each proxy's own counters admit while the store fails.",
    ),
];

const SCOPE: &[(&str, &str)] = &[
    ("global", "all requests together"),
    ("per_user", "each user"),
    ("per_ip", "each address"),
    ("per_endpoint", "each endpoint of the rule, or each path if it names none"),
];

const MODE: &[(&str, &str)] = &[("enforce", "it does"), ("shadow", "it is evaluated and counted but never acts")];

const ON_STORE_ERROR: &[(&str, &str)] = &[
    ("local", "the proxy's own counters, with local_share of the quota"),
    ("allow", "the rule is skipped"),
    ("deny", "the request is refused"),
];
