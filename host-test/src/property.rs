//! Properties: what `proxy_get_property` finds by path. A test's own come first; what the host can know is derived from
//! the request, the plugin and the connection. Envoy's expression types other than bytes, integers and booleans are not
//! modelled.

use crate::abi::Status;
use crate::context::{Context, StandsFor};
use crate::headers::Headers;
use crate::stream::{Flow, StreamState};
use crate::vm::VmState;

/// Looks a path up; segments are separated by zero bytes, a trailing one is ignored.
pub(crate) fn lookup(vm: &VmState, context: &Context, path: &[u8]) -> Result<Vec<u8>, Status> {
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let text = String::from_utf8_lossy(path);
    let segments: Vec<&str> = text.split('\0').collect();
    let plugin = match segments[..] {
        ["filter_state"] => return Err(Status::SerializationFailure),
        ["plugin_name"] => Some(context.root.plugin.clone()),
        ["plugin_root_id"] => Some(context.root.named.clone()),
        ["plugin_vm_id"] => Some(vm.key.vm_id.clone()),
        _ => None,
    };
    if let Some(value) = plugin {
        return Ok(value.into_bytes());
    }
    let found = match &context.stands_for {
        StandsFor::Root => None,
        StandsFor::Connection(connection) => peer(&connection.peer, &segments),
        StandsFor::Stream(stream) => {
            let state = stream.state.borrow();
            let given = state.properties.get(path).cloned();
            given.or_else(|| state.set_properties.get(path).cloned()).or_else(|| derived(&state, context, &segments))
        }
    };
    found.ok_or(Status::NotFound)
}

fn derived(state: &StreamState, context: &Context, segments: &[&str]) -> Option<Vec<u8>> {
    let number = |value: usize| Some(i64::try_from(value).unwrap_or(i64::MAX).to_le_bytes().to_vec());
    match segments {
        ["source", ..] => peer(&state.peer, segments),
        ["connection_id"] => Some(u64::from(context.root.id).to_le_bytes().to_vec()),
        ["request", "size"] => number(state.request.through.as_ref().map_or(0, |m| m.body.len())),
        ["request", rest @ ..] => {
            let headers = visible_headers(&state.request, state.logging)?;
            request(headers, rest)
        }
        ["response", "code"] => {
            let status = state.response.headers.status();
            (status != 0).then(|| i64::from(status).to_le_bytes().to_vec())
        }
        ["response", "code_details"] => {
            let reply = state.reply.as_ref()?;
            (!reply.details.is_empty()).then(|| reply.details.clone().into_bytes())
        }
        ["response", "headers", name] => joined(visible_headers(&state.response, state.logging)?, name),
        _ => None,
    }
}

/// The headers of a direction, where a plugin may see them now: `request.*` is gone once the request has passed, and
/// there again for the log callback.
fn visible_headers(flow: &Flow, logging: bool) -> Option<&Headers> {
    (flow.visible.headers || logging).then_some(&flow.headers)
}

fn request(headers: &Headers, rest: &[&str]) -> Option<Vec<u8>> {
    let path = || headers.get(":path").map(<[u8]>::to_vec);
    let question = |path: &[u8]| path.iter().position(|byte| *byte == b'?');
    match rest {
        ["path"] => path(),
        ["url_path"] => path().map(|mut path| {
            path.truncate(question(&path).unwrap_or(path.len()));
            path
        }),
        ["query"] => path().map(|path| {
            let start = question(&path).map_or(path.len(), |at| at + 1);
            path[start..].to_vec()
        }),
        ["method"] => headers.get(":method").map(<[u8]>::to_vec),
        ["host"] => headers.get(":authority").map(<[u8]>::to_vec),
        ["scheme"] => headers.get(":scheme").map(<[u8]>::to_vec),
        ["id"] => headers.get("x-request-id").map(<[u8]>::to_vec),
        ["headers", name] => joined(headers, name),
        _ => None,
    }
}

/// All values of a header with commas between, as a property shows them.
fn joined(headers: &Headers, name: &str) -> Option<Vec<u8>> {
    let values = headers.get_all(name);
    (!values.is_empty()).then(|| values.join(&b","[..]))
}

fn peer(address: &str, segments: &[&str]) -> Option<Vec<u8>> {
    match segments {
        ["source", "address"] => Some(address.as_bytes().to_vec()),
        ["source", "port"] => {
            let port: i64 = address.rsplit(':').next()?.parse().ok()?;
            Some(port.to_le_bytes().to_vec())
        }
        _ => None,
    }
}
