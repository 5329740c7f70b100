//! How results are written: JSON as Upstash writes it, with or without base64, or RESP2.
//! Not here: statuses (`failure`, `routes`).

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redis::Value;

use crate::failure::{Failure, server_text};

/// How the caller wants results written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Strings as JSON strings; bytes that are not UTF-8 become U+FFFD.
    Json,
    /// `Upstash-Encoding: base64`: every string in base64, except the status `OK`.
    Base64,
    /// `Upstash-Response-Format: resp2`: the bytes of Redis's own protocol.
    Resp2,
}

impl Encoding {
    /// What the request's headers ask for; `Upstash-Response-Format` wins.
    pub fn asked(headers: &HeaderMap) -> Self {
        let is = |name: &str, value: &str| {
            headers.get(name).is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
        };
        if is("upstash-response-format", "resp2") {
            Self::Resp2
        } else if is("upstash-encoding", "base64") {
            Self::Base64
        } else {
            Self::Json
        }
    }

    /// The media type of what is written.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Base64 => "application/json",
            Self::Resp2 => "application/octet-stream",
        }
    }
}

/// What came of one command.
pub type Outcome = Result<Value, Failure>;

/// The body for one command: `{"result":...}` or `{"error":...}`.
pub fn single(outcome: &Outcome, encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    write_outcome(&mut out, outcome, encoding);
    out
}

/// The body for several commands: an array of what `single` writes.
pub fn batch(outcomes: &[Outcome], encoding: Encoding) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 * outcomes.len());
    if encoding == Encoding::Resp2 {
        write_header(&mut out, b'*', outcomes.len());
        for outcome in outcomes {
            write_outcome(&mut out, outcome, encoding);
        }
        return out;
    }
    write_list(&mut out, outcomes, |out, outcome| write_outcome(out, outcome, encoding));
    out
}

/// The body for a failure before any command ran; always JSON.
pub fn failed(failure: &Failure) -> Vec<u8> {
    single(&Err(failure.clone()), Encoding::Json)
}

fn write_outcome(out: &mut Vec<u8>, outcome: &Outcome, encoding: Encoding) {
    match (outcome, encoding) {
        (Ok(value), Encoding::Resp2) => write_resp(out, value),
        (Err(failure), Encoding::Resp2) => write_line(out, b'-', failure.text().as_bytes()),
        (Ok(Value::ServerError(error)), _) => write_error(out, &server_text(error)),
        (Err(failure), _) => write_error(out, &failure.text()),
        (Ok(value), _) => {
            out.extend_from_slice(b"{\"result\":");
            write_json(out, value, encoding);
            out.push(b'}');
        }
    }
}

fn write_error(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"{\"error\":");
    write_text(out, text);
    out.push(b'}');
}

/// Integers are written in full, also beyond 2^53: a reader with doubles rounds them, as with Upstash.
fn write_json(out: &mut Vec<u8>, value: &Value, encoding: Encoding) {
    match value {
        Value::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        Value::Okay => out.extend_from_slice(b"\"OK\""),
        Value::BulkString(bytes) => write_string(out, bytes, encoding),
        Value::SimpleString(text) => write_string(out, text.as_bytes(), encoding),
        Value::Array(items) | Value::Set(items) => {
            write_list(out, items, |out, item| write_json(out, item, encoding));
        }
        // An error inside a result, as a script's table may hold one: Upstash, too, has only its text there.
        Value::ServerError(error) => write_text(out, &server_text(error)),
        Value::Boolean(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        // The rest exists in RESP3 only, which is never negotiated.
        _ => out.extend_from_slice(b"null"),
    }
}

fn write_string(out: &mut Vec<u8>, bytes: &[u8], encoding: Encoding) {
    if encoding == Encoding::Base64 {
        let start = out.len() + 1;
        out.push(b'"');
        out.resize(start + bytes.len().div_ceil(3) * 4, 0);
        // The room is exactly what padded base64 takes, so this cannot fail; if it did, zeros would be cut off.
        let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
        out.truncate(start + written);
        out.push(b'"');
    } else {
        write_text(out, &String::from_utf8_lossy(bytes));
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing a string into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn write_resp(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Int(number) => write_line(out, b':', itoa::Buffer::new().format(*number).as_bytes()),
        Value::Okay => write_line(out, b'+', b"OK"),
        Value::SimpleString(text) => write_line(out, b'+', text.as_bytes()),
        Value::ServerError(error) => write_line(out, b'-', server_text(error).as_bytes()),
        Value::BulkString(bytes) => {
            write_header(out, b'$', bytes.len());
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Value::Array(items) | Value::Set(items) => {
            write_header(out, b'*', items.len());
            for item in items {
                write_resp(out, item);
            }
        }
        _ => out.extend_from_slice(b"$-1\r\n"),
    }
}

fn write_header(out: &mut Vec<u8>, kind: u8, length: usize) {
    write_line(out, kind, itoa::Buffer::new().format(length).as_bytes());
}

/// One line; a line break inside would end it early, so it becomes a space.
fn write_line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend(text.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(wire: &[u8]) -> Value {
        redis::parse_redis_value(wire).unwrap()
    }

    fn json(wire: &[u8], encoding: Encoding) -> String {
        String::from_utf8(single(&Ok(parse(wire)), encoding)).unwrap()
    }

    #[test]
    fn every_result_type() {
        assert_eq!(json(b"$-1\r\n", Encoding::Json), r#"{"result":null}"#);
        assert_eq!(json(b":-7\r\n", Encoding::Json), r#"{"result":-7}"#);
        assert_eq!(json(b":9007199254740993\r\n", Encoding::Json), r#"{"result":9007199254740993}"#);
        assert_eq!(json(b"+PONG\r\n", Encoding::Json), r#"{"result":"PONG"}"#);
        assert_eq!(json(b"$4\r\na\"\n\\\r\n", Encoding::Json), r#"{"result":"a\"\n\\"}"#);
        assert_eq!(json(b"$2\r\n\xff\xfe\r\n", Encoding::Json), "{\"result\":\"\u{fffd}\u{fffd}\"}");
        assert_eq!(json(b"*3\r\n:1\r\n*0\r\n$-1\r\n", Encoding::Json), r#"{"result":[1,[],null]}"#);
        assert_eq!(json(b"-WRONGTYPE no\r\n", Encoding::Json), r#"{"error":"WRONGTYPE no"}"#);
    }

    #[test]
    fn base64_spares_only_the_status_ok() {
        assert_eq!(json(b"+OK\r\n", Encoding::Base64), r#"{"result":"OK"}"#);
        assert_eq!(json(b"$2\r\nOK\r\n", Encoding::Base64), r#"{"result":"T0s="}"#);
        assert_eq!(json(b"+PONG\r\n", Encoding::Base64), r#"{"result":"UE9ORw=="}"#);
        assert_eq!(json(b"*2\r\n$2\r\n\xff\xfe\r\n:3\r\n", Encoding::Base64), r#"{"result":["//4=",3]}"#);
        assert_eq!(json(b"$0\r\n\r\n", Encoding::Base64), r#"{"result":""}"#);
        assert_eq!(json(b"-ERR x\r\n", Encoding::Base64), r#"{"error":"ERR x"}"#);
    }

    #[test]
    fn resp2_gives_back_the_bytes_of_redis() {
        for wire in [
            &b"$-1\r\n"[..],
            b":42\r\n",
            b"+OK\r\n",
            b"$3\r\na\r\n\r\n",
            b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            b"-ERR no\r\n",
        ] {
            assert_eq!(single(&Ok(parse(wire)), Encoding::Resp2), wire);
        }
        let outcomes = [Ok(parse(b":1\r\n")), Err(Failure::Store("ERR a\r\n+OK".to_owned()))];
        assert_eq!(batch(&outcomes, Encoding::Resp2), b"*2\r\n:1\r\n-ERR a  +OK\r\n");
    }

    #[test]
    fn a_batch_is_an_array_of_single_answers() {
        let outcomes = [Ok(parse(b":1\r\n")), Ok(parse(b"-ERR x\r\n")), Err(Failure::TimedOut)];
        assert_eq!(
            String::from_utf8(batch(&outcomes, Encoding::Json)).unwrap(),
            r#"[{"result":1},{"error":"ERR x"},{"error":"TIMEOUT Redis did not answer in time"}]"#
        );
    }
}
