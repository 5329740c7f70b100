//! `Headers`: an ordered list of names and values as bytes, with duplicates. Nothing is checked or decoded: what a client
//! may send, a test may send.

/// Names (lower case) and values in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pair behind the others; the name becomes lower case.
    pub fn append(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.pairs.push((name.as_ref().to_ascii_lowercase(), value.as_ref().to_vec()));
    }

    /// Adds a pair, for chains of calls.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.append(name, value);
        self
    }

    /// Puts one value in place of every value of that name; the first keeps its position.
    pub fn set(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        let Some(at) = self.pairs.iter().position(|(other, _)| *other == name) else {
            return self.append(name, value);
        };
        let mut index = 0;
        self.pairs.retain(|(other, _)| {
            index += 1;
            index - 1 <= at || *other != name
        });
        self.pairs[at].1 = value.as_ref().to_vec();
    }

    /// Removes every value of that name.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let name = name.as_ref().to_ascii_lowercase();
        self.pairs.retain(|(other, _)| *other != name);
    }

    /// The first value of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.get_all(name).into_iter().next()
    }

    /// The first value of that name as text; bytes that are not UTF-8 are shown as U+FFFD.
    pub fn text(&self, name: impl AsRef<[u8]>) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Every value of that name, in order.
    pub fn get_all(&self, name: impl AsRef<[u8]>) -> Vec<&[u8]> {
        let name = name.as_ref().to_ascii_lowercase();
        self.pairs.iter().filter(|(other, _)| *other == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Length of all names and values together, in bytes: what `proxy_get_header_map_size` answers.
    pub fn byte_size(&self) -> usize {
        self.pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The `:status` pseudo-header as a number, 0 where it is absent or not a number.
    pub fn status(&self) -> u16 {
        self.text(":status").and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_keeps_the_place_of_the_first_and_drops_the_others() {
        let mut headers: Headers = [("a", "1"), ("b", "2"), ("A", "3")].into_iter().collect();
        headers.set("a", "9");
        let pairs: Vec<_> = headers.iter().collect();
        assert_eq!(pairs, [(&b"a"[..], &b"9"[..]), (&b"b"[..], &b"2"[..])]);
    }
}
