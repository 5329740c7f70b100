//! What those who operate a proxy may ask of it at run time: calls, grants, rules laid over the policy file, the audit
//! trail, and the one value that holds all of it. Pure: who asks, what time it is and what random bits there are come in
//! as arguments. Serving it over HTTP, and keeping the value where all workers see it, is the filter's.

pub mod answer;
pub mod audit;
pub mod call;
pub mod explain;
pub mod grant;
pub(crate) mod granted;
pub mod overlay;
pub mod rfc3339;
pub mod runtime;

use core::fmt::Write as _;

use crate::policy::Node;

/// An object of these members, in this order; they are moved out. A slice, because an array of each length would be
/// another function in the .wasm.
pub fn object(members: &mut [(&str, Node)]) -> Node {
    let take = |(name, value): &mut (&str, Node)| ((*name).to_owned(), core::mem::replace(value, Node::Null));
    Node::Object(members.iter_mut().map(take).collect())
}

/// A string.
pub fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

/// A whole number; what a signed 64-bit number cannot hold is its largest.
pub fn number(number: u64) -> Node {
    Node::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A value as one line of a log: JSON in ASCII, so that nothing in it moves a terminal's cursor.
pub fn line(node: &Node) -> String {
    let mut line = String::new();
    for c in node.to_json().chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            line.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line
}

/// Members that are whole numbers, in this order.
pub fn numbers(members: &[(&str, u64)]) -> Vec<(String, Node)> {
    members.iter().map(|(name, value)| ((*name).to_owned(), number(*value))).collect()
}

/// Reads what [`hex`] writes, in any case; `false` where that is not exactly as many bytes.
pub fn read_hex(digits: &str, bytes: &mut [u8]) -> bool {
    let digits = digits.as_bytes();
    let pairs = digits.chunks_exact(2);
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    digits.len() == bytes.len().saturating_mul(2)
        && bytes.iter_mut().zip(pairs).all(|(byte, pair)| match pair {
            [high, low] => nibble(*high).zip(nibble(*low)).map(|(high, low)| *byte = high << 4 | low).is_some(),
            _ => false,
        })
}

/// The lower-case hexadecimal digits of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
