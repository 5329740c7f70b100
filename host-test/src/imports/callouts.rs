//! HTTP and gRPC calls of plugins: they become pending on the root context, or are refused at once.

use wasmtime::Linker;

use super::host_function;
use crate::abi::{Status, decode_pairs};
use crate::callout::{Callout, CalloutKind, Cluster, Pending};
use crate::guest::{Fault, Guest};
use crate::headers::Headers;
use crate::vm::Data;

pub(super) fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_http_call(
            cluster,
            cluster_size,
            headers,
            headers_size,
            body,
            body_size,
            trailers,
            trailers_size,
            timeout_ms,
            token_at
        ) | guest
            | {
                let call = Call {
                    kind: CalloutKind::Http,
                    cluster: text(guest, cluster, cluster_size)?,
                    headers: decode_pairs(&guest.read(headers, headers_size)?),
                    body: guest.read(body, body_size)?,
                    trailers: decode_pairs(&guest.read(trailers, trailers_size)?),
                    timeout_ms,
                };
                guest.write_word(token_at, 0)?;
                admit(guest, &call)?;
                let token = start(guest, call)?;
                guest.write_word(token_at, token)
            }
    );
    define_grpc_start(linker)?;
    define_grpc_rest(linker)
}

fn define_grpc_start(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_grpc_call(
            cluster,
            cluster_size,
            service,
            service_size,
            method,
            method_size,
            metadata,
            metadata_size,
            message,
            message_size,
            timeout_ms,
            token_at
        ) | guest
            | {
                let service = text(guest, service, service_size)?;
                let method = text(guest, method, method_size)?;
                let call = Call {
                    kind: CalloutKind::GrpcCall { method: format!("{service}/{method}") },
                    cluster: text(guest, cluster, cluster_size)?,
                    headers: decode_pairs(&guest.read(metadata, metadata_size)?),
                    body: guest.read(message, message_size)?,
                    trailers: Headers::new(),
                    timeout_ms,
                };
                let token = start(guest, call)?;
                guest.write_word(token_at, token)
            }
    );
    host_function!(
        linker,
        proxy_grpc_stream(
            cluster,
            cluster_size,
            service,
            service_size,
            method,
            method_size,
            metadata,
            metadata_size,
            token_at
        ) | guest
            | {
                let service = text(guest, service, service_size)?;
                let method = text(guest, method, method_size)?;
                let kind =
                    CalloutKind::GrpcStream { method: format!("{service}/{method}"), sent: Vec::new(), closed: false };
                let call = Call {
                    kind,
                    cluster: text(guest, cluster, cluster_size)?,
                    headers: decode_pairs(&guest.read(metadata, metadata_size)?),
                    body: Vec::new(),
                    trailers: Headers::new(),
                    timeout_ms: 0,
                };
                let token = start(guest, call)?;
                guest.write_word(token_at, token)
            }
    );
    Ok(())
}

fn define_grpc_rest(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_grpc_send(token, message, message_size, end) | guest | {
            let message = guest.read(message, message_size)?;
            let mut callouts = guest.state.callouts.borrow_mut();
            let pending = callouts.get_mut(&token).ok_or(Status::NotFound)?;
            let CalloutKind::GrpcStream { sent, closed, .. } = &mut pending.callout.kind else {
                return Err(Status::BadArgument.into());
            };
            sent.push(message);
            *closed |= end != 0;
            Ok(())
        }
    );
    host_function!(
        linker,
        proxy_grpc_cancel(token) | guest | {
            let removed = guest.state.callouts.borrow_mut().remove(&token);
            removed.map(drop).ok_or(Status::NotFound.into())
        }
    );
    host_function!(
        linker,
        proxy_grpc_close(token) | guest | {
            let mut callouts = guest.state.callouts.borrow_mut();
            let pending = callouts.get_mut(&token).ok_or(Status::NotFound)?;
            if let CalloutKind::GrpcStream { closed, .. } = &mut pending.callout.kind {
                *closed = true;
            } else {
                callouts.remove(&token);
            }
            Ok(())
        }
    );
    Ok(())
}

struct Call {
    kind: CalloutKind,
    cluster: String,
    headers: Headers,
    body: Vec<u8>,
    trailers: Headers,
    timeout_ms: u32,
}

/// Refuses what Envoy refuses synchronously.
fn admit(guest: &Guest<'_>, call: &Call) -> Result<(), Fault> {
    let clusters = guest.host.clusters.borrow();
    let cluster = clusters.get(&call.cluster).ok_or(Status::BadArgument)?;
    let pseudo = [":path", ":method", ":authority"];
    if pseudo.iter().any(|name| call.headers.get(name).is_none()) {
        return Err(Status::BadArgument.into());
    }
    let most = match cluster {
        Cluster::Healthy { max_requests } => *max_requests,
        Cluster::NoHealthyHost => 0,
    };
    if under_way(guest, &call.cluster) >= most {
        return Err(Status::InternalFailure.into());
    }
    Ok(())
}

fn under_way(guest: &Guest<'_>, cluster: &str) -> usize {
    let callouts = guest.state.callouts.borrow();
    let same = callouts.values().filter(|pending| pending.callout.cluster == cluster);
    same.count()
}

fn start(guest: &Guest<'_>, call: Call) -> Result<u32, Fault> {
    let root = guest.root()?;
    let token = guest.state.next_token.get();
    guest.state.next_token.set(token.checked_add(1).unwrap_or(1));
    let now = guest.host.clock.steady_micros();
    let timeout = u64::from(call.timeout_ms) * 1000;
    let pending = Pending {
        context: root.id,
        due: (timeout > 0).then(|| now.saturating_add(timeout)),
        callout: Callout {
            thread: guest.state.thread,
            token,
            kind: call.kind,
            cluster: call.cluster,
            headers: call.headers,
            body: call.body,
            trailers: call.trailers,
            timeout_ms: call.timeout_ms,
            vm: guest.state.number,
        },
    };
    guest.state.callouts.borrow_mut().insert(token, pending);
    Ok(token)
}

fn text(guest: &mut Guest<'_>, pointer: u32, size: u32) -> Result<String, Fault> {
    let bytes = guest.read(pointer, size)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
