//! Continuing, closing and answering streams. All of it happens after the running callback.

use std::rc::Rc;

use wasmtime::Linker;

use super::host_function;
use crate::abi::{Status, decode_pairs};
use crate::connection::ConnectionEvent;
use crate::context::StandsFor;
use crate::drive::Step;
use crate::guest::Guest;
use crate::stream::{Direction, End, LocalReply, Visible};
use crate::vm::Data;

pub(super) fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(linker, proxy_continue_stream(kind) | guest | { continue_stream(guest, kind) });
    // Names of ABI 0.1 that Envoy's host still registers.
    host_function!(linker, proxy_continue_request() | guest | { continue_stream(guest, 0) });
    host_function!(linker, proxy_continue_response() | guest | { continue_stream(guest, 1) });
    host_function!(linker, proxy_clear_route_cache() | _guest | { Ok(()) });
    host_function!(
        linker,
        proxy_close_stream(kind) | guest | {
            if kind > 3 {
                return Err(Status::BadArgument.into());
            }
            let step = match guest.context()?.stands_for {
                StandsFor::Stream(stream) if kind < 2 => Step::Finish(stream, End::Reset),
                StandsFor::Connection(connection) if kind > 1 => Step::Connection(connection, ConnectionEvent::Closed),
                _ => return Ok(()),
            };
            guest.state.actions.borrow_mut().push_back(step);
            Ok(())
        }
    );
    host_function!(linker, proxy_send_local_response(
        status, details, details_size, body, body_size, headers, headers_size, grpc_status: i32
    ) |guest| {
        let details = guest.read(details, details_size)?;
        let body = guest.read(body, body_size)?;
        let headers = guest.read(headers, headers_size)?;
        let reply = LocalReply {
            status: u16::try_from(status).unwrap_or(u16::MAX),
            headers: decode_pairs(&headers),
            body,
            grpc_status: u32::try_from(grpc_status).ok(),
            details: String::from_utf8_lossy(&details).into_owned(),
        };
        if let Some(stream) = guest.stream() {
            guest.state.actions.borrow_mut().push_back(Step::Reply(stream, reply));
        }
        guest.state.stop_next.set(true);
        Ok(())
    });
    Ok(())
}

fn continue_stream(guest: &Guest<'_>, kind: u32) -> crate::guest::Outcome {
    let direction = match kind {
        0 => Direction::Request,
        1 => Direction::Response,
        2 | 3 => return continue_connection(guest, kind),
        _ => return Err(Status::BadArgument.into()),
    };
    let Some(stream) = guest.stream() else {
        return Ok(());
    };
    {
        // Whatever is continued, the request can no longer be looked at: Envoy forgets it here.
        let request = &mut stream.state.borrow_mut().request;
        request.visible = Visible::default();
    }
    let step = Step::Resume(Rc::clone(&stream), direction);
    guest.state.actions.borrow_mut().push_back(step);
    Ok(())
}

/// Envoy answers `BadArgument` on an HTTP stream; on a connection it is what lets held bytes go on.
fn continue_connection(guest: &Guest<'_>, kind: u32) -> crate::guest::Outcome {
    let StandsFor::Connection(connection) = guest.context()?.stands_for else {
        return Err(Status::BadArgument.into());
    };
    connection.held.set(false);
    if kind == 2 {
        connection.release_downstream();
    } else {
        connection.release_upstream();
    }
    Ok(())
}
