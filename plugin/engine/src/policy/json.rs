//! Reads JSON into a small tree that keeps duplicate members, so that they can be reported.
//! Whether the tree is a policy is not known here.

use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

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
    /// Any other number.
    Number(f64),
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
    let mut reader = serde_json::Deserializer::from_slice(text);
    Value { depth: 0 }.deserialize(&mut reader).and_then(|node| reader.end().map(|()| node)).map_err(|error| {
        let allowed = format!("JSON, without comments and trailing commas, at most {DEEPEST} levels deep");
        Mistake::new("", format!("a syntax error, {error}"), allowed)
    })
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

    /// The value of any number.
    pub fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "only shares and thresholds are read as fractions")]
            Self::Integer(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            _ => None,
        }
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
        // Strings and numbers cannot fail to serialize.
        let quote = |text: &str| serde_json::to_string(text).unwrap_or_default();
        match self {
            Self::Null => out.push_str("null"),
            Self::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(number) => out.push_str(&number.to_string()),
            Self::Number(number) => out.push_str(&serde_json::to_string(number).unwrap_or_default()),
            Self::Text(text) => out.push_str(&quote(text)),
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
                    out.push_str(&quote(name));
                    out.push(':');
                    value.write(out);
                }
                out.push_str(if members.is_empty() { "{}" } else { "}" });
            }
        }
    }
}

/// Reads one value, `depth` lists and objects deep.
#[derive(Clone, Copy)]
struct Value {
    depth: usize,
}

impl Value {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= DEEPEST {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { depth: self.depth.saturating_add(1) })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Node, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "no member allows a number as large")]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(i64::try_from(value).map_or(Node::Number(value as f64), Node::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Node, A::Error> {
        let inner = self.deeper()?;
        let mut entries = Vec::new();
        while let Some(entry) = source.next_element_seed(inner)? {
            entries.push(entry);
        }
        Ok(Node::List(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Node, A::Error> {
        let inner = self.deeper()?;
        let mut members = Vec::new();
        while let Some(name) = source.next_key::<String>()? {
            members.push((name, source.next_value_seed(inner)?));
        }
        Ok(Node::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        let text = r#"{"a":[1,-2,1.5,"x\"\n",null,true],"a":{},"b":[]}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().to_json(), text);
    }

    #[test]
    fn bombs_are_refused_early() {
        let mistake = parse("[".repeat(100_000).as_bytes()).unwrap_err();
        assert!(mistake.found.contains("nested too deeply at line 1 column 33"), "{mistake}");
        assert!(parse(format!("{}{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST)).as_bytes()).is_ok());
        assert!(parse(b"{\"a\": 1} x").unwrap_err().found.contains("line 1 column 10"));
    }
}
