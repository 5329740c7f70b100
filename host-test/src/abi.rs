//! The numbers of the proxy-wasm ABI 0.2.1: statuses, map and buffer kinds, and the wire form of header pairs. No
//! behaviour lives here.

use crate::headers::Headers;

/// What a host function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such key, token, property or buffer.
    NotFound = 1,
    /// An argument that the host refuses, or a map that does not exist in this phase.
    BadArgument = 2,
    /// A property that exists and cannot be put into bytes.
    SerializationFailure = 3,
    /// A pointer or length outside of the plugin's memory, or no allocator to return bytes with.
    InvalidMemoryAccess = 6,
    /// A shared queue without items.
    Empty = 7,
    /// A shared value changed since it was read.
    CasMismatch = 8,
    /// The host could not do it now.
    InternalFailure = 10,
    /// The host does not have this function.
    Unimplemented = 12,
}

/// A header map, by the number that plugins use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    GrpcInitialMetadata,
    GrpcTrailingMetadata,
    CallResponseHeaders,
    CallResponseTrailers,
}

impl MapKind {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitialMetadata,
            5 => Self::GrpcTrailingMetadata,
            6 => Self::CallResponseHeaders,
            7 => Self::CallResponseTrailers,
            _ => return None,
        })
    }
}

/// A byte buffer, by the number that plugins use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferKind {
    RequestBody,
    ResponseBody,
    DownstreamData,
    UpstreamData,
    CallResponseBody,
    GrpcReceive,
    VmConfiguration,
    PluginConfiguration,
    CallData,
}

impl BufferKind {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            2 => Self::DownstreamData,
            3 => Self::UpstreamData,
            4 => Self::CallResponseBody,
            5 => Self::GrpcReceive,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::CallData,
            _ => return None,
        })
    }
}

/// Puts pairs into the form in which they cross into the plugin: the count, all lengths, then every name and value with
/// a closing zero byte, numbers as little-endian u32. No pairs give four zero bytes.
pub(crate) fn encode_pairs(headers: &Headers) -> Vec<u8> {
    let mut bytes = length(headers.len()).to_vec();
    for (name, value) in headers.iter() {
        bytes.extend(length(name.len()));
        bytes.extend(length(value.len()));
    }
    for (name, value) in headers.iter() {
        for part in [name, value] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
    }
    bytes
}

/// Reads pairs; what is cut short reads as no pairs, as in the real host.
pub(crate) fn decode_pairs(bytes: &[u8]) -> Headers {
    try_decode_pairs(bytes).unwrap_or_default()
}

fn try_decode_pairs(bytes: &[u8]) -> Option<Headers> {
    let word = |at: usize| -> Option<usize> {
        let part = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(part.try_into().ok()?)).ok()
    };
    let count = word(0)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    if at > bytes.len() {
        return None;
    }
    let mut headers = Headers::new();
    for index in 0..count {
        let mut parts = [Vec::new(), Vec::new()];
        for (half, part) in parts.iter_mut().enumerate() {
            let size = word(4 + index * 8 + half * 4)?;
            *part = bytes.get(at..at.checked_add(size)?)?.to_vec();
            at = at.checked_add(size)?.checked_add(1)?;
        }
        let [name, value] = parts;
        headers.append(name, value);
    }
    Some(headers)
}

fn length(size: usize) -> [u8; 4] {
    u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_survive_the_round_trip_with_duplicates_and_any_bytes() {
        let mut headers = Headers::new();
        headers.append(b"a", vec![0xff, 0]);
        headers.append(b"a", Vec::new());
        assert_eq!(decode_pairs(&encode_pairs(&headers)), headers);
    }

    #[test]
    fn pairs_cut_short_read_as_none() {
        let mut headers = Headers::new();
        headers.append(b"name", b"value");
        let bytes = encode_pairs(&headers);
        assert_eq!(decode_pairs(&bytes[..bytes.len() - 3]).len(), 0);
        assert_eq!(decode_pairs(&[9, 0, 0, 0]).len(), 0);
    }
}
