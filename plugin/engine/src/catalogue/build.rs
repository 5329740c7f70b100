//! Makes the built-in strategies from their nodes in a policy, which fit their options and have the defaults filled in.

use crate::policy::{Mistake, Node};
use crate::strategy::{Body, Graceful, Queue, Reduced, Reject, Room, Strategy, Throttle};
use crate::time::Micros;

pub(super) fn reject(node: &Node, says_when: bool) -> Box<dyn Strategy> {
    Box::new(Reject { status: status(node, "status"), body: body(node), says_when })
}

pub(super) fn throttle(node: &Node) -> Box<dyn Strategy> {
    Box::new(Throttle {
        max_delay: Micros::from_millis(number(node, "max_delay_ms")),
        room: Room {
            waiting: node.small("max_waiting").unwrap_or_default(),
            waiting_per_key: node.small("max_waiting_per_key").unwrap_or_default(),
        },
    })
}

pub(super) fn queue(node: &Node) -> Box<dyn Strategy> {
    let word = |name: &str| node.word(name).unwrap_or_default().to_owned();
    let headers = node.words("headers").unwrap_or_default();
    Box::new(Queue {
        cluster: word("cluster"),
        authority: word("authority"),
        max_queued: node.small("max_queued").unwrap_or_default(),
        max_body_bytes: size(node, "max_body_bytes"),
        headers: headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
        max_attempts: node.small("max_attempts").unwrap_or_default(),
        backoff: Micros::from_millis(number(node, "backoff_ms")),
        timeout: Micros::from_millis(number(node, "timeout_ms")),
        max_wait: Micros::from_secs(number(node, "max_wait_seconds")),
        result_ttl: Micros::from_secs(number(node, "result_ttl_seconds")),
        max_result_bytes: size(node, "max_result_bytes"),
        full_status: status(node, "full_status"),
        allow_unverified: node.get("allow_unverified").and_then(Node::boolean).unwrap_or_default(),
    })
}

pub(super) fn graceful(node: &Node, pointer: &str) -> Result<Box<dyn Strategy>, Mistake> {
    let reduced = match (node.get("forward"), node.get("respond")) {
        (Some(forward), None) => {
            let cluster = forward.get("cluster_header");
            let cluster = cluster.and_then(|one| Some((one.word("name")?, one.word("cluster")?)));
            let mut headers = headers(forward);
            headers.extend(cluster.map(|(name, cluster)| (name.to_ascii_lowercase(), cluster.to_owned())));
            Reduced::Forward { headers, path: forward.word("path").map(str::to_owned) }
        }
        (None, Some(respond)) => {
            Reduced::Respond { status: status(respond, "status"), headers: headers(respond), body: body(respond) }
        }
        (Some(_), Some(_)) => return Err(Mistake::new(pointer, "forward and respond", "one of forward, respond")),
        (None, None) => return Err(Mistake::new(pointer, "neither forward nor respond", "one of forward, respond")),
    };
    let ceiling = node.get("ceiling").and_then(Node::millionths);
    let ceiling_ppm = ceiling.and_then(|ppm| u64::try_from(ppm).ok()).unwrap_or(2_000_000);
    Ok(Box::new(Graceful { reduced, ceiling_ppm }))
}

fn number(node: &Node, name: &str) -> u64 {
    node.get(name).and_then(Node::whole).unwrap_or_default()
}

fn size(node: &Node, name: &str) -> usize {
    node.small(name).and_then(|size| usize::try_from(size).ok()).unwrap_or_default()
}

fn status(node: &Node, name: &str) -> u16 {
    node.small(name).and_then(|status| u16::try_from(status).ok()).unwrap_or(429)
}

fn headers(node: &Node) -> Vec<(String, String)> {
    let members = node.get("headers").map(Node::members).unwrap_or_default();
    members.iter().filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.text()?.to_owned()))).collect()
}

fn body(node: &Node) -> Body {
    match node.get("body") {
        None => Body::Problem,
        Some(Node::Text(text)) => Body::Own { content_type: "text/plain; charset=utf-8", content: text.clone() },
        Some(json) => Body::Own { content_type: "application/json", content: json.to_json() },
    }
}
