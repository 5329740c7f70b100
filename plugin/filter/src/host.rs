//! The host calls that the filter makes, with every status returned as a value: a number, because a host may answer one
//! that no list has. Header bytes need not be UTF-8, so no call answers with a `String`.

#[cfg(target_family = "wasm")]
mod raw;
#[cfg(not(target_family = "wasm"))]
#[path = "host/absent.rs"]
mod raw;

use tidegate_engine::{Header, Response, Timestamp};

/// A status other than OK, by the number that the proxy-wasm ABI gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(u32);

impl Status {
    /// The thing asked for is not there.
    pub(crate) const NOT_FOUND: Self = Self(1);
    /// The host cannot make sense of an argument.
    pub(crate) const BAD_ARGUMENT: Self = Self(2);
    /// Somebody else wrote first.
    pub(crate) const CAS_MISMATCH: Self = Self(8);
}

/// A CAS number that no write ever had: with it a write succeeds only where the key is absent.
pub(crate) const IF_ABSENT: u32 = u32::MAX;

/// The CAS number with which a write succeeds whatever there is.
pub(crate) const ANYHOW: u32 = 0;

/// The header maps that the filter reads or writes.
#[derive(Clone, Copy)]
pub(crate) enum Map {
    RequestHeaders = 0,
    RequestTrailers = 1,
    ResponseHeaders = 2,
    CallResponseHeaders = 6,
}

/// The buffers that the filter reads.
#[derive(Clone, Copy)]
pub(crate) enum Buffer {
    RequestBody = 0,
    CallResponseBody = 4,
    PluginConfiguration = 7,
}

/// How loud a log line is.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Info = 2,
    Warn = 3,
    Error = 4,
}

/// Kinds of metrics.
#[derive(Clone, Copy)]
pub(crate) enum MetricKind {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

fn ok(status: u32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

/// Calls the host for bytes that it allocates in this VM's memory.
fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, Status> {
    let mut data = core::ptr::null_mut();
    let mut size = 0;
    ok(call(&raw mut data, &raw mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host allocated `size` bytes at `data` by `proxy_on_memory_allocate`, which made them as a boxed slice
    // of that length, and hands them over.
    let boxed = unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(data, size)) };
    Ok(boxed.into_vec())
}

/// Writes a log line.
pub(crate) fn log(level: Level, message: &str) {
    // SAFETY: the host only reads the message.
    let _ = unsafe { raw::proxy_log(level as u32, message.as_ptr(), message.len()) };
}

/// The host's wall clock; the epoch where it has none.
pub(crate) fn now() -> Timestamp {
    let mut nanos = 0;
    // SAFETY: the host writes one u64.
    let _ = unsafe { raw::proxy_get_current_time_nanoseconds(&raw mut nanos) };
    Timestamp::from_micros(nanos / 1_000)
}

/// A clock that never steps, for what is waited for: it counts from some moment of the host's own. A host that has none
/// gives its wall clock.
pub(crate) fn steady() -> Timestamp {
    const MONOTONIC: u32 = 1;
    let mut nanos = 0;
    // SAFETY: the host writes one u64.
    let status = unsafe { raw::clock_time_get(MONOTONIC, 1_000, &raw mut nanos) };
    if status == 0 { Timestamp::from_micros(nanos / 1_000) } else { now() }
}

/// The first `size` bytes of a buffer.
pub(crate) fn buffer(buffer: Buffer, size: usize) -> Result<Vec<u8>, Status> {
    // SAFETY: see `bytes`.
    bytes(|data, length| unsafe { raw::proxy_get_buffer_bytes(buffer as u32, 0, size, data, length) })
}

/// A property by the names that lead to it.
pub(crate) fn property<'p>(path: impl IntoIterator<Item = &'p str>) -> Result<Vec<u8>, Status> {
    let mut joined = Vec::new();
    for name in path {
        if !joined.is_empty() {
            joined.push(0);
        }
        joined.extend_from_slice(name.as_bytes());
    }
    // SAFETY: see `bytes`; the host only reads the path.
    bytes(|data, length| unsafe { raw::proxy_get_property(joined.as_ptr(), joined.len(), data, length) })
}

/// Leaves a value where access logs can read it.
pub(crate) fn set_property(name: &str, value: &[u8]) {
    // SAFETY: the host only reads both.
    let _ = unsafe { raw::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// A header map as the host packs it, in one call.
pub(crate) struct Headers(Vec<u8>);

impl Headers {
    /// Reads a whole map.
    pub(crate) fn of(map: Map) -> Result<Self, Status> {
        // SAFETY: see `bytes`.
        bytes(|data, length| unsafe { raw::proxy_get_header_map_pairs(map as u32, data, length) }).map(Self)
    }

    /// The lines in order. A map that is packed wrongly ends early.
    pub(crate) fn lines(&self) -> Vec<Header<'_>> {
        let (words, _) = self.0.as_chunks::<4>();
        let mut sizes = words.iter().map(|word| u32::from_le_bytes(*word) as usize);
        let count = sizes.next().unwrap_or(0).min(words.len());
        let mut rest = self.0.get(count.saturating_mul(8).saturating_add(4)..).unwrap_or_default();
        let mut lines = Vec::with_capacity(count);
        for _ in 0..count {
            let (Some(name), Some(value)) = (sizes.next(), sizes.next()) else { break };
            let Some((name, after)) = take(rest, name) else { break };
            let Some((value, after)) = take(after, value) else { break };
            lines.push((name, value));
            rest = after;
        }
        lines
    }
}

/// The first `size` bytes and what follows their closing zero.
fn take(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (value, rest) = bytes.split_at_checked(size)?;
    Some((value, rest.strip_prefix(b"\0")?))
}

/// Packs headers as the host reads them.
fn pack<N: AsRef<str>, V: AsRef<[u8]>>(headers: &[(N, V)]) -> Vec<u8> {
    let word = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    let mut packed = Vec::new();
    packed.extend_from_slice(&word(headers.len()));
    for (name, value) in headers {
        packed.extend_from_slice(&word(name.as_ref().len()));
        packed.extend_from_slice(&word(value.as_ref().len()));
    }
    for (name, value) in headers {
        packed.extend_from_slice(name.as_ref().as_bytes());
        packed.push(0);
        packed.extend_from_slice(value.as_ref());
        packed.push(0);
    }
    packed
}

/// The first value of a header.
pub(crate) fn header(map: Map, name: &str) -> Result<Vec<u8>, Status> {
    // SAFETY: see `bytes`; the host only reads the name.
    bytes(|data, size| unsafe { raw::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), data, size) })
}

/// Adds a line beside those of the same name.
pub(crate) fn add_header(map: Map, name: &str, value: &str) {
    // SAFETY: the host only reads both.
    let _ =
        unsafe { raw::proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
}

/// Makes one line the only one of its name.
pub(crate) fn replace_header(map: Map, name: &str, value: &str) {
    // SAFETY: the host only reads both.
    let _ = unsafe {
        raw::proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
}

/// Removes every line of a name.
pub(crate) fn remove_header(map: Map, name: &[u8]) {
    // SAFETY: the host only reads the name.
    let _ = unsafe { raw::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) };
}

/// Answers the request in the upstream's stead. `details` goes to access logs.
pub(crate) fn respond(response: &Response, details: &str) -> Result<(), Status> {
    let packed = pack(&response.headers);
    // -1 leaves the gRPC status to the host.
    let grpc_status = response.grpc_status.and_then(|status| i32::try_from(status).ok()).unwrap_or(-1);
    // SAFETY: the host only reads what is passed.
    ok(unsafe {
        raw::proxy_send_local_response(
            u32::from(response.status),
            details.as_ptr(),
            details.len(),
            response.body.as_ptr(),
            response.body.len(),
            packed.as_ptr(),
            packed.len(),
            grpc_status,
        )
    })
}

/// Sends an HTTP request to one of the host's clusters; its answer comes to the root, with the token returned.
///
/// # Errors
/// [`Status::BAD_ARGUMENT`] where there is no such cluster; any other where the request cannot be sent now. Then no
/// answer comes.
pub(crate) fn http_call(
    cluster: &str,
    headers: &[(&str, Vec<u8>)],
    body: &[u8],
    timeout_ms: u32,
) -> Result<u32, Status> {
    let packed = pack(headers);
    let no_trailers = pack::<&str, &[u8]>(&[]);
    let mut token = 0;
    // SAFETY: the host only reads what is passed, and writes one u32.
    ok(unsafe {
        raw::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            packed.as_ptr(),
            packed.len(),
            body.as_ptr(),
            body.len(),
            no_trailers.as_ptr(),
            no_trailers.len(),
            timeout_ms,
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// Makes the calls that follow in this callback speak of another exchange.
///
/// # Errors
/// Its stream is gone.
pub(crate) fn enter(exchange: u32) -> Result<(), Status> {
    // SAFETY: plain numbers.
    ok(unsafe { raw::proxy_set_effective_context(exchange) })
}

/// Sends a held request on. The host does so after this callback.
pub(crate) fn resume() -> Result<(), Status> {
    const REQUEST: u32 = 0;
    // SAFETY: plain numbers.
    ok(unsafe { raw::proxy_continue_stream(REQUEST) })
}

/// Has the host tick this root every so many milliseconds; 0 stops it.
pub(crate) fn set_tick(millis: u32) {
    // SAFETY: plain numbers.
    let _ = unsafe { raw::proxy_set_tick_period_milliseconds(millis) };
}

/// A shared value and its CAS number.
///
/// # Errors
/// [`Status::NOT_FOUND`] where the key was never set.
pub(crate) fn shared(key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
    let mut cas = 0;
    // SAFETY: see `bytes`; the host writes one u32 to `cas`.
    let value =
        bytes(|data, size| unsafe { raw::proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas) })?;
    Ok((value, cas))
}

/// Writes a shared value if nobody wrote since `cas` was read; with [`IF_ABSENT`], if the key is absent.
///
/// # Errors
/// [`Status::CAS_MISMATCH`] where somebody did.
pub(crate) fn set_shared(key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
    // SAFETY: the host only reads both.
    ok(unsafe { raw::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// A metric's handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metric(u32);

/// Defines a metric. A host without metrics gets handle 0, whose changes it ignores.
pub(crate) fn define_metric(kind: MetricKind, name: &str) -> Metric {
    let mut id = 0;
    // SAFETY: the host reads the name and writes one u32.
    let _ = unsafe { raw::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut id) };
    Metric(id)
}

impl Metric {
    /// Adds to a metric. Hosts refuse to lower a counter.
    pub(crate) fn add(self, offset: i64) {
        // SAFETY: plain numbers.
        let _ = unsafe { raw::proxy_increment_metric(self.0, offset) };
    }

    /// A counter's or gauge's value in all workers; 0 where the host keeps none.
    pub(crate) fn value(self) -> u64 {
        let mut value = 0;
        // SAFETY: the host writes one u64.
        let _ = unsafe { raw::proxy_get_metric(self.0, &raw mut value) };
        value
    }

    /// Sets a gauge, or adds a value to a histogram.
    pub(crate) fn set(self, value: u64) {
        // SAFETY: plain numbers.
        let _ = unsafe { raw::proxy_record_metric(self.0, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_headers_read_back() {
        let packed = Headers(pack(&[("a", "1".to_owned()), ("empty", String::new()), ("a", "2".to_owned())]));
        assert_eq!(packed.lines(), [(&b"a"[..], &b"1"[..]), (b"empty", b""), (b"a", b"2")]);
    }

    #[test]
    fn a_broken_map_ends_early_and_does_not_trap() {
        let whole = pack(&[("a", "1".to_owned()), ("b", "2".to_owned())]);
        for cut in 0..whole.len() {
            let _ = Headers(whole[..cut].to_vec()).lines();
        }
        assert!(Headers(vec![0xff; 64]).lines().is_empty());
    }
}
