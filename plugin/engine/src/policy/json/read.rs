//! Reads JSON (RFC 8259). Of our own, because a number keeps the digits it was written in and a member its duplicates,
//! and because reading floats alone is 25 KB of tables in the .wasm. What a document means is not known here.

use super::{DEEPEST, Node};

/// Where a text stops being JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    what: &'static str,
    /// Bytes before it.
    at: usize,
}

impl Broken {
    /// What is wrong, and the line and column, from 1, in characters.
    pub(super) fn told(&self, text: &[u8]) -> String {
        let before = text.get(..self.at).unwrap_or(text);
        let line = before.split(|byte| *byte == b'\n').count();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline.saturating_add(1));
        let is_first_byte = |byte: &&u8| **byte & 0xc0 != 0x80;
        let column = before.get(start..).unwrap_or_default().iter().filter(is_first_byte).count().saturating_add(1);
        format!("{} at line {line} column {column}", self.what)
    }
}

/// Reads the whole text as one value.
pub(super) fn read(text: &[u8]) -> Result<Node, Broken> {
    let text = core::str::from_utf8(text)
        .map_err(|error| Broken { what: "bytes that are not UTF-8", at: error.valid_up_to() })?;
    let mut reader = Reader { text, at: 0 };
    let node = reader.value(0)?;
    match reader.next() {
        None => Ok(node),
        Some(_) => reader.broken("something after the end"),
    }
}

/// A text, read up to a byte.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn broken<T>(&self, what: &'static str) -> Result<T, Broken> {
        Err(Broken { what: if self.at < self.text.len() { what } else { "the end of the text" }, at: self.at })
    }

    fn rest(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    /// The byte that comes after any space.
    fn next(&mut self) -> Option<u8> {
        let space = self.rest().iter().position(|byte| !b" \t\r\n".contains(byte));
        self.skip(space.unwrap_or(self.rest().len()));
        self.rest().first().copied()
    }

    /// Moves behind the byte, if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.next() == Some(byte);
        self.skip(usize::from(is_next));
        is_next
    }

    /// Reads a value that stands in `depth` lists and objects.
    fn value(&mut self, depth: usize) -> Result<Node, Broken> {
        match self.next() {
            Some(b'{' | b'[') if depth >= DEEPEST => self.broken("nested too deeply"),
            Some(b'{') => self.object(depth.saturating_add(1)),
            Some(b'[') => self.list(depth.saturating_add(1)),
            Some(b'"') => self.string().map(Node::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words = [("null", Node::Null), ("true", Node::Boolean(true)), ("false", Node::Boolean(false))];
                for (word, node) in words {
                    if self.rest().starts_with(word.as_bytes()) {
                        self.skip(word.len());
                        return Ok(node);
                    }
                }
                self.broken("no value")
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node, Broken> {
        self.skip(1);
        let mut entries = Vec::new();
        if self.take(b']') {
            return Ok(Node::List(entries));
        }
        loop {
            entries.push(self.value(depth)?);
            if self.take(b']') {
                return Ok(Node::List(entries));
            }
            if !self.take(b',') {
                return self.broken("neither a comma nor the end of the list");
            }
            if self.next() == Some(b']') {
                return self.broken("a list's end after a comma");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node, Broken> {
        self.skip(1);
        let mut members = Vec::new();
        if self.take(b'}') {
            return Ok(Node::Object(members));
        }
        loop {
            match self.next() {
                Some(b'"') => {}
                Some(b'}') => return self.broken("an object's end after a comma"),
                _ => return self.broken("a member's name that is no string"),
            }
            let name = self.string()?;
            if !self.take(b':') {
                return self.broken("a member without a colon");
            }
            members.push((name, self.value(depth)?));
            if self.take(b'}') {
                return Ok(Node::Object(members));
            }
            if !self.take(b',') {
                return self.broken("neither a comma nor the end of the object");
            }
        }
    }

    /// Reads a string from its first quote on.
    fn string(&mut self) -> Result<String, Broken> {
        self.skip(1);
        let mut content = String::new();
        loop {
            let plain = self.rest().iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'));
            let plain = plain.unwrap_or(self.rest().len());
            content.push_str(self.text.get(self.at..self.at.saturating_add(plain)).unwrap_or_default());
            self.skip(plain);
            match self.rest().first() {
                Some(b'"') => {
                    self.skip(1);
                    return Ok(content);
                }
                Some(b'\\') => content.push(self.escaped()?),
                _ => return self.broken("a control character in a string"),
            }
        }
    }

    /// Reads an escape from its backslash on.
    fn escaped(&mut self) -> Result<char, Broken> {
        let escaped = match self.rest().get(1) {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(*plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.unit()?;
                if let Some(c) = char::from_u32(u32::from(first)) {
                    return Ok(c);
                }
                // RFC 8259, section 7: beyond the Basic Multilingual Plane a pair of surrogates.
                let pair = [first, self.unit()?];
                return match char::decode_utf16(pair).next() {
                    Some(Ok(c)) => Ok(c),
                    _ => self.broken("half a surrogate pair"),
                };
            }
            _ => return self.broken("an escape that JSON does not have"),
        };
        self.skip(2);
        Ok(escaped)
    }

    /// Reads `\u` and its four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, Broken> {
        let digits = self.rest().strip_prefix(b"\\u").and_then(|rest| rest.first_chunk::<4>());
        let hex = |value: Option<u16>, digit: &u8| {
            let digit = char::from(*digit).to_digit(16).and_then(|digit| u16::try_from(digit).ok());
            value.zip(digit).map(|(value, digit)| value << 4 | digit)
        };
        let Some(unit) = digits.and_then(|digits| digits.iter().fold(Some(0), hex)) else {
            return self.broken("an escape without four hexadecimal digits, or half a surrogate pair");
        };
        self.skip(6);
        Ok(unit)
    }

    fn number(&mut self) -> Result<Node, Broken> {
        let start = self.at;
        self.skip(usize::from(self.rest().first() == Some(&b'-')));
        let has_zero = self.rest().first() == Some(&b'0');
        let whole = self.digits()?;
        if has_zero && whole > 1 {
            self.at = self.at.saturating_sub(whole);
            return self.broken("a number that begins with 0");
        }
        let mut is_whole = true;
        if self.rest().first() == Some(&b'.') {
            is_whole = false;
            self.skip(1);
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.rest().first() {
            is_whole = false;
            self.skip(1);
            self.skip(usize::from(matches!(self.rest().first(), Some(b'+' | b'-'))));
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        // `-0` stays as it is written: no integer has a negative zero.
        let integer = if is_whole && text != "-0" { text.parse().ok() } else { None };
        Ok(integer.map_or_else(|| Node::Number(text.to_owned()), Node::Integer))
    }

    /// Moves behind the digits that come next, at least one, and counts them.
    fn digits(&mut self) -> Result<usize, Broken> {
        let rest = self.rest();
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        if count == 0 {
            return self.broken("a number without digits");
        }
        self.skip(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Of pieces of JSON in any order, what another reader takes is taken, and means the same.
        #[test]
        fn what_is_json_is_what_another_reader_takes(
            pieces in proptest::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", "\"", "\\", ",", ":", " ", "\n", "a", "u00e9", "ud83d", "\\ude00", "/", "-", "+", ".", "e",
                    "0", "1", "20", "true", "null", "\"a\"", "{\"b\":", "\u{e9}", "\u{1}",
                ]),
                0..16,
            )
        ) {
            let text = pieces.concat();
            let other = serde_json::from_str::<serde_json::Value>(&text);
            if !other.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range")) {
                let own = read(text.as_bytes());
                prop_assert_eq!(own.is_ok(), other.is_ok(), "{:?}: {:?}, {:?}", text, own, other);
                if let (Ok(own), Ok(other)) = (own, other) {
                    prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&own.to_json()).unwrap(), other);
                }
            }
        }
    }

    fn told(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().told(text.as_bytes())
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for (text, expected) in [
            ("", "the end of the text at line 1 column 1"),
            ("{\"a\": 1", "the end of the text at line 1 column 8"),
            ("{\n \"a\": 1,\n}", "an object's end after a comma at line 3 column 1"),
            ("[1,]", "a list's end after a comma at line 1 column 4"),
            ("[1 2]", "neither a comma nor the end of the list at line 1 column 4"),
            ("{\"a\" 1}", "a member without a colon at line 1 column 6"),
            ("{a: 1}", "a member's name that is no string at line 1 column 2"),
            ("{\"a\": 1 \"b\"}", "neither a comma nor the end of the object at line 1 column 9"),
            ("nul", "no value at line 1 column 1"),
            ("01", "a number that begins with 0 at line 1 column 1"),
            ("[1.]", "a number without digits at line 1 column 4"),
            ("[-]", "a number without digits at line 1 column 3"),
            ("[1e+]", "a number without digits at line 1 column 5"),
            ("\"\u{e9}\n\"", "a control character in a string at line 1 column 3"),
            (r#""\x""#, "an escape that JSON does not have at line 1 column 2"),
            (r#""\u12g4""#, "an escape without four hexadecimal digits, or half a surrogate pair at line 1 column 2"),
            (r#""\ud800""#, "an escape without four hexadecimal digits, or half a surrogate pair at line 1 column 8"),
            (r#""\ud800\u0041""#, "half a surrogate pair at line 1 column 14"),
            ("1 x", "something after the end at line 1 column 3"),
        ] {
            assert_eq!(told(text), expected, "{text:?}");
        }
        assert_eq!(read(b"\"\xff\"").unwrap_err(), Broken { what: "bytes that are not UTF-8", at: 1 });
    }
}
