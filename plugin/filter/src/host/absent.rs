//! Stand-ins where there is no host, so that the crate's unit tests link: every call answers "unimplemented".

#![allow(clippy::too_many_arguments, unused_variables)]

/// The ABI's number for a call that the host does not have.
const UNIMPLEMENTED: u32 = 12;

pub(super) unsafe fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_log(level: u32, message: *const u8, size: usize) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_get_buffer_bytes(
    kind: u32,
    start: usize,
    max_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, size: usize) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_get_header_map_value(
    map: u32,
    name: *const u8,
    name_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_add_header_map_value(
    map: u32,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    size: usize,
) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_replace_header_map_value(
    map: u32,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    size: usize,
) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_send_local_response(
    status: u32,
    details: *const u8,
    details_size: usize,
    body: *const u8,
    body_size: usize,
    headers: *const u8,
    headers_size: usize,
    grpc_status: i32,
) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_get_shared_data(
    key: *const u8,
    key_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
    cas: *mut u32,
) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_set_shared_data(
    key: *const u8,
    key_size: usize,
    value: *const u8,
    size: usize,
    cas: u32,
) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_increment_metric(id: u32, offset: i64) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_record_metric(id: u32, value: u64) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_set_effective_context(context: u32) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_continue_stream(stream: u32) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_set_tick_period_milliseconds(millis: u32) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_get_metric(id: u32, value: *mut u64) -> u32 {
    UNIMPLEMENTED
}

pub(super) unsafe fn proxy_http_call(
    cluster: *const u8,
    cluster_size: usize,
    headers: *const u8,
    headers_size: usize,
    body: *const u8,
    body_size: usize,
    trailers: *const u8,
    trailers_size: usize,
    timeout_ms: u32,
    token: *mut u32,
) -> u32 {
    UNIMPLEMENTED
}
