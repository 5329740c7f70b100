//! The JSON bodies of the admin API, as the same kind of table that the policy's format is: checked by the same code, so
//! that every mistake is told at once, in the same words.

use super::json::{self, Node};
use super::mistake::Mistakes;
use super::shape::{Member, Shape};
use super::{format, text, walk};
use crate::catalogue::Catalogue;

/// `POST /v1/overrides`. What must hold between its members is in `admin::grant`.
pub(crate) static OVERRIDE: Shape = Shape::Object(&[
    Member::optional("admin_id", Shape::Text(text::NAME), "The token's name; another one is refused."),
    Member::optional("target_user_id", Shape::Text(text::IDENTIFIER), "A verified user."),
    Member::optional("target_ip", Shape::Text(text::ADDRESS_RANGE), "An address or a range."),
    Member::optional("target_endpoint", Shape::Text(text::ENDPOINT), "A path, as in a rule's endpoints."),
    Member::optional("target_rule", Shape::Text(text::RULE_OR_ALL), "A rule, or all; alone it is a kill switch."),
    Member::required("reason", Shape::OneOf(REASON), "Why it is given."),
    Member::required("duration_minutes", Shape::Integer { min: 1, max: 366 * 24 * 60 }, "How long it lasts."),
    Member::optional("unlimited", Shape::Boolean, "The rules are evaluated and counted, and do not act."),
    Member::optional("rate_multiplier", Shape::Number { above: 1, up_to: 1000 }, "How many times the quota."),
    Member::or("note", Shape::Text(text::REMARK), "\"\"", "For those who read the audit log."),
]);

/// Why an override is given.
pub(crate) const REASON: &[(&str, &str)] = &[
    ("emergency_access", "somebody must get through now"),
    ("maintenance", "planned work"),
    ("testing", "a test"),
    ("customer_support", "a customer needs it"),
    ("other", "the note says"),
];

/// `POST /v1/explain`.
pub(crate) static EXPLAIN: Shape = Shape::Object(&[
    Member::or("method", Shape::Text(text::TOKEN), "\"GET\"", "The method."),
    Member::required("path", Shape::Text(text::REQUEST_PATH), "The path as a client sends it."),
    Member::optional("user_id", Shape::Text(text::IDENTIFIER), "A verified user."),
    Member::optional("ip_address", Shape::Text(text::ADDRESS_RANGE), "The client's address."),
    Member::or("headers", Shape::Headers { max: 64 }, "{}", "Request headers."),
]);

/// One rule, as in the policy's `rules`.
pub(crate) static RULE: Shape = Shape::Object(format::RULE);

/// Reads a body and checks it.
pub(crate) fn read(body: &[u8], shape: &Shape, catalogue: &Catalogue) -> Result<Node, Mistakes> {
    let node = json::parse(body)?;
    let mut mistakes = Mistakes::default();
    walk::check(&node, shape, catalogue, &mut mistakes);
    if mistakes.is_empty() { Ok(node) } else { Err(mistakes) }
}
