//! JSON as a small tree that keeps duplicate members, so that they can be reported, and numbers as they are written.
//! Whether the tree is a policy is not known here.

mod read;

use super::mistake::Mistake;

/// How many lists and objects may stand inside each other; a policy needs eight.
const DEEPEST: usize = 32;

/// A JSON value. Members keep their order and their duplicates.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A number written in digits alone, within 64 bits and a sign.
    Integer(i64),
    /// Any other number, in the digits it is written in.
    Number(String),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// An object.
    Object(Vec<(String, Node)>),
}

/// Reads a JSON text.
///
/// # Errors
/// A mistake at the whole document: where the syntax breaks, or that it nests too deeply.
pub(crate) fn parse(text: &[u8]) -> Result<Node, Mistake> {
    read::read(text).map_err(|broken| {
        let allowed = format!("JSON, without comments and trailing commas, at most {DEEPEST} levels deep");
        Mistake::new("", format!("a syntax error, {}", broken.told(text)), allowed)
    })
}

/// The text without the byte order mark that some editors put first. RFC 8259, section 8.1: a reader may skip it.
pub(super) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

impl Node {
    /// The member of that name; `None` where there is none, or this is no object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The members of an object; empty for anything else.
    pub fn members(&self) -> &[(String, Self)] {
        if let Self::Object(members) = self { members } else { &[] }
    }

    /// The entries of a list; empty for anything else.
    pub fn entries(&self) -> &[Self] {
        if let Self::List(entries) = self { entries } else { &[] }
    }

    /// The content of a string.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The value of a whole number that is not negative.
    pub fn whole(&self) -> Option<u64> {
        if let Self::Integer(number) = self { u64::try_from(*number).ok() } else { None }
    }

    /// The value of a whole number.
    pub fn integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        if let Self::Boolean(value) = self { Some(*value) } else { None }
    }

    /// A number of millionths, as short as can be.
    pub fn of_millionths(millionths: u64) -> Self {
        let (whole, part) = (millionths / 1_000_000, millionths % 1_000_000);
        if part == 0 {
            return Self::Integer(i64::try_from(whole).unwrap_or(i64::MAX));
        }
        let mut text = whole.to_string();
        text.push('.');
        // The one in front keeps the zeros that the fraction begins with.
        let digits = part.saturating_add(1_000_000).to_string();
        text.push_str(digits.get(1..).unwrap_or_default().trim_end_matches('0'));
        Self::Number(text)
    }

    /// The value of any number in millionths: a smaller part counts as one more, so that nothing above a bound seems to
    /// keep it; the largest for what 64 bits cannot hold.
    pub fn millionths(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(number.saturating_mul(1_000_000)),
            Self::Number(text) => Some(millionths(text)),
            _ => None,
        }
    }

    /// The value of any number, to the millionth.
    #[expect(clippy::cast_precision_loss, reason = "only shares and thresholds are read as fractions")]
    pub fn number(&self) -> Option<f64> {
        self.millionths().map(|millionths| millionths as f64 / 1e6)
    }

    /// The content of the member of that name, where it is a string.
    pub fn word(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// The strings in the list of that name; `None` where it is absent or holds anything else.
    pub fn words(&self, name: &str) -> Option<Vec<String>> {
        self.get(name)?.entries().iter().map(|entry| entry.text().map(str::to_owned)).collect()
    }

    /// The value of the member of that name, where it is a whole number below 2^32.
    pub fn small(&self, name: &str) -> Option<u32> {
        self.get(name)?.whole().and_then(|number| u32::try_from(number).ok())
    }

    /// What a message calls a value of this kind.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "true or false",
            Self::Integer(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The value as JSON without spaces.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(number) => out.push_str(&number.to_string()),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => quote(text, out),
            Self::List(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    out.push(if index == 0 { '[' } else { ',' });
                    entry.write(out);
                }
                out.push_str(if entries.is_empty() { "[]" } else { "]" });
            }
            Self::Object(members) => {
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    quote(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push_str(if members.is_empty() { "{}" } else { "}" });
            }
        }
    }
}

/// Writes a text in quotes, what must be escaped escaped.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ..'\u{20}' => {
                let digit = |nibble: u32| char::from_digit(nibble, 16).unwrap_or('0');
                out.push_str("\\u00");
                out.extend([digit(u32::from(c) >> 4), digit(u32::from(c) & 15)]);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A number with a fraction or an exponent in millionths, away from zero where it has a smaller part.
fn millionths(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    // An exponent of more digits than 32 bits hold is as good as the largest.
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i32::MIN / 2 } else { i32::MAX / 2 });
    let point = mantissa.find('.').unwrap_or(mantissa.len());
    // How many of the digits stand before the point once it has moved.
    let mut places = i32::try_from(point).unwrap_or(i32::MAX / 4).saturating_add(exponent).saturating_add(6);
    let mut number = 0_i64;
    let mut is_cut = false;
    for digit in mantissa.chars().filter_map(|c| c.to_digit(10)) {
        if places > 0 {
            number = number.saturating_mul(10).saturating_add(digit.into());
        } else {
            is_cut |= digit > 0;
        }
        places = places.saturating_sub(1);
    }
    while places > 0 && number > 0 && number < i64::MAX {
        number = number.saturating_mul(10);
        places = places.saturating_sub(1);
    }
    number.saturating_add(is_cut.into()).saturating_mul(sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let text = r#"{"a":[1,-2,1.50,-1e-3,18446744073709551616,"x\"\n\u001f\b\f/",null,true],"a":{},"b":[]}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().to_json(), text);
        let escaped = parse(br#"" \/\u00e9\ud83d\ude00 ""#).unwrap();
        assert_eq!(escaped.text(), Some(" /\u{e9}\u{1f600} "));
    }

    #[test]
    fn numbers_in_millionths() {
        for (text, expected) in [
            ("2", 2_000_000),
            ("-2", -2_000_000),
            ("1.5", 1_500_000),
            ("-1.5", -1_500_000),
            ("0.25e1", 2_500_000),
            ("25E-1", 2_500_000),
            ("1e3", 1_000_000_000),
            ("0.000001", 1),
            ("0.0000001", 1),
            ("-0.0000001", -1),
            ("1.0000001", 1_000_001),
            ("0.0", 0),
            ("0e999999999999", 0),
            ("1e308", i64::MAX),
            ("-1e308", -i64::MAX),
            ("1e99999999999999", i64::MAX),
            ("1e-99999999999999", 1),
            ("18446744073709551616", i64::MAX),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().millionths(), Some(expected), "{text}");
        }
        for (millionths, expected) in
            [(0, "0"), (1, "0.000001"), (1_500_000, "1.5"), (2_000_000, "2"), (10_000_010, "10.00001")]
        {
            assert_eq!(Node::of_millionths(millionths).to_json(), expected);
        }
    }

    #[test]
    fn bombs_are_refused_early() {
        let mistake = parse("[".repeat(100_000).as_bytes()).unwrap_err();
        assert!(mistake.found.contains("nested too deeply at line 1 column 33"), "{mistake}");
        assert!(parse(format!("{}{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST)).as_bytes()).is_ok());
        assert!(parse(b"{\"a\": 1} x").unwrap_err().found.contains("line 1 column 10"));
    }
}
