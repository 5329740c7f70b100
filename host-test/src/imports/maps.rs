//! Header maps and buffers: which of them exists in which phase, reading and changing them.

use wasmtime::Linker;

use super::host_function;
use crate::abi::{BufferKind, MapKind, Status, decode_pairs, encode_pairs};
use crate::context::StandsFor;
use crate::guest::{Fault, Guest};
use crate::headers::Headers;
use crate::stream::{Flow, StreamState};
use crate::vm::Data;

pub(super) fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    define_reads(linker)?;
    define_changes(linker)?;
    define_buffers(linker)
}

fn define_reads(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_get_header_map_pairs(map, pairs_at, size_at) | guest | {
            let headers = readable(guest, map)?;
            // Without headers the plugin gets a null pointer, not an encoding of none.
            let bytes = if headers.is_empty() { Vec::new() } else { encode_pairs(&headers) };
            guest.give(&bytes, pairs_at, size_at)
        }
    );
    host_function!(
        linker,
        proxy_get_header_map_value(map, name, name_size, value_at, size_at) | guest | {
            let name = guest.read(name, name_size)?;
            let headers = readable(guest, map)?;
            let value = headers.get(&name).ok_or(Status::NotFound)?;
            guest.give(value, value_at, size_at)
        }
    );
    host_function!(
        linker,
        proxy_get_header_map_size(map, size_at) | guest | {
            let size = readable(guest, map)?.byte_size();
            guest.write_word(size_at, u32::try_from(size).unwrap_or(u32::MAX))
        }
    );
    Ok(())
}

fn define_changes(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_set_header_map_pairs(map, pairs, size) | guest | {
            let pairs = decode_pairs(&guest.read(pairs, size)?);
            change(guest, map, |headers| *headers = pairs)
        }
    );
    host_function!(
        linker,
        proxy_add_header_map_value(map, name, name_size, value, value_size) | guest | {
            let name = guest.read(name, name_size)?;
            let value = guest.read(value, value_size)?;
            change(guest, map, |headers| headers.append(name, value))
        }
    );
    host_function!(
        linker,
        proxy_replace_header_map_value(map, name, name_size, value, value_size) | guest | {
            let name = guest.read(name, name_size)?;
            let value = guest.read(value, value_size)?;
            change(guest, map, |headers| headers.set(name, value))
        }
    );
    host_function!(
        linker,
        proxy_remove_header_map_value(map, name, name_size) | guest | {
            let name = guest.read(name, name_size)?;
            change(guest, map, |headers| headers.remove(name))
        }
    );
    Ok(())
}

fn define_buffers(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_get_buffer_bytes(buffer, start, length, bytes_at, size_at) | guest | {
            let bytes = buffer_bytes(guest, buffer)?;
            let end = start.checked_add(length).ok_or(Status::BadArgument)?;
            let end = (end as usize).min(bytes.len());
            let part = bytes.get(start as usize..end).unwrap_or_default();
            // Nothing to return leaves the plugin's pointers as they are.
            if part.is_empty() {
                return Ok(());
            }
            guest.give(part, bytes_at, size_at)
        }
    );
    host_function!(
        linker,
        proxy_get_buffer_status(buffer, length_at, flags_at) | guest | {
            let length = buffer_bytes(guest, buffer)?.len();
            guest.write_word(length_at, u32::try_from(length).unwrap_or(u32::MAX))?;
            guest.write_word(flags_at, 0)
        }
    );
    host_function!(
        linker,
        proxy_set_buffer_bytes(buffer, start, length, data, data_size) | guest | {
            let kind = BufferKind::from_number(buffer).ok_or(Status::BadArgument)?;
            buffer_bytes(guest, buffer)?;
            let data = guest.read(data, data_size)?;
            let replace = |bytes: &mut Vec<u8>| {
                let from = (start as usize).min(bytes.len());
                let to = from.saturating_add(length as usize).min(bytes.len());
                bytes.splice(from..to, data);
            };
            match (kind, guest.context()?.stands_for) {
                (BufferKind::RequestBody, StandsFor::Stream(stream)) => {
                    replace(&mut stream.state.borrow_mut().request.body);
                }
                (BufferKind::ResponseBody, StandsFor::Stream(stream)) => {
                    replace(&mut stream.state.borrow_mut().response.body);
                }
                (BufferKind::DownstreamData, StandsFor::Connection(connection)) => {
                    replace(&mut connection.downstream.borrow_mut());
                }
                (BufferKind::UpstreamData, StandsFor::Connection(connection)) => {
                    replace(&mut connection.upstream.borrow_mut());
                }
                _ => return Err(Status::BadArgument.into()),
            }
            Ok(())
        }
    );
    // Of ABI 0.1, still registered by Envoy's host.
    host_function!(
        linker,
        proxy_get_configuration(bytes_at, size_at) | guest | {
            let root = guest.root()?;
            let bytes =
                if root.configuring.get() { root.configuration.clone() } else { guest.state.key.configuration.clone() };
            guest.give(&bytes, bytes_at, size_at)
        }
    );
    Ok(())
}

/// A copy of a map, where it exists now; `BadArgument` otherwise.
fn readable(guest: &Guest<'_>, map: u32) -> Result<Headers, Fault> {
    let kind = MapKind::from_number(map).ok_or(Status::BadArgument)?;
    let context = guest.context()?;
    let answer = context.root.answer.borrow();
    let grpc = context.root.grpc.borrow();
    let found = match kind {
        MapKind::CallResponseHeaders => answer.as_ref().map(|answer| answer.headers.clone()),
        MapKind::CallResponseTrailers => answer.as_ref().map(|answer| answer.trailers.clone()),
        MapKind::GrpcInitialMetadata => grpc.initial.clone(),
        MapKind::GrpcTrailingMetadata => grpc.trailing.clone(),
        _ => context.stream().and_then(|stream| {
            let mut state = stream.state.borrow_mut();
            let logging = state.logging;
            stream_map(&mut state, kind, logging).cloned()
        }),
    };
    Ok(found.ok_or(Status::BadArgument)?)
}

/// Changes a map of a stream; the log callback and other kinds of maps are read-only.
fn change(guest: &Guest<'_>, map: u32, edit: impl FnOnce(&mut Headers)) -> Result<(), Fault> {
    let kind = MapKind::from_number(map).ok_or(Status::BadArgument)?;
    let stream = guest.stream().ok_or(Status::BadArgument)?;
    let mut state = stream.state.borrow_mut();
    edit(stream_map(&mut state, kind, false).ok_or(Status::BadArgument)?);
    Ok(())
}

fn stream_map(state: &mut StreamState, kind: MapKind, logging: bool) -> Option<&mut Headers> {
    let headers = |flow: &mut Flow| flow.visible.headers || (logging && !flow.headers.is_empty());
    match kind {
        MapKind::RequestHeaders => headers(&mut state.request).then_some(&mut state.request.headers),
        MapKind::ResponseHeaders => headers(&mut state.response).then_some(&mut state.response.headers),
        MapKind::RequestTrailers => state.request.visible.trailers.then_some(&mut state.request.trailers),
        MapKind::ResponseTrailers => {
            (state.response.visible.trailers || logging).then_some(&mut state.response.trailers)
        }
        _ => None,
    }
}

/// A copy of a buffer, where it exists now; `NotFound` otherwise.
fn buffer_bytes(guest: &Guest<'_>, buffer: u32) -> Result<Vec<u8>, Fault> {
    let kind = BufferKind::from_number(buffer).ok_or(Status::BadArgument)?;
    let context = guest.context()?;
    let root = &context.root;
    let found = match (kind, &context.stands_for) {
        (BufferKind::VmConfiguration, _) => Some(guest.state.key.configuration.clone()),
        (BufferKind::PluginConfiguration, _) => root.configuring.get().then(|| root.configuration.clone()),
        (BufferKind::CallResponseBody, _) => root.answer.borrow().as_ref().map(|answer| answer.body.clone()),
        (BufferKind::GrpcReceive, _) => root.grpc.borrow().message.clone(),
        (BufferKind::RequestBody, StandsFor::Stream(stream)) => body(&stream.state.borrow().request),
        (BufferKind::ResponseBody, StandsFor::Stream(stream)) => body(&stream.state.borrow().response),
        (BufferKind::DownstreamData, StandsFor::Connection(connection)) => Some(connection.downstream.borrow().clone()),
        (BufferKind::UpstreamData, StandsFor::Connection(connection)) => Some(connection.upstream.borrow().clone()),
        _ => None,
    };
    Ok(found.ok_or(Status::NotFound)?)
}

fn body(flow: &Flow) -> Option<Vec<u8>> {
    flow.visible.body.then(|| flow.body.clone())
}
