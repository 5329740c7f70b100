//! Where in a text a JSON pointer leads. The text is taken to be JSON; what else it is, is not checked.

use super::json::{parse, without_mark};

/// The line and column, from 1, of the value that `pointer` leads to. Of members that stand twice, the first counts.
/// `None` where the pointer leads nowhere.
pub fn locate(text: &[u8], pointer: &str) -> Option<(usize, usize)> {
    let text = without_mark(text);
    let mut scan = Scan { rest: text };
    scan.skip_space();
    for segment in pointer.split('/').skip(1) {
        scan.enter(&segment.replace("~1", "/").replace("~0", "~"))?;
    }
    let before = text.get(..text.len().checked_sub(scan.rest.len())?)?;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline.saturating_add(1));
    let line = before.split(|byte| *byte == b'\n').count();
    let column = String::from_utf8_lossy(before.get(line_start..)?).chars().count().saturating_add(1);
    Some((line, column))
}

/// What is left of the text, from the start of a value on.
struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Takes the byte if it is next, and the space after it.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        self.skip_space();
        Some(())
    }

    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }

    /// Moves to the start of the value at `segment` in the object or list that starts here.
    fn enter(&mut self, segment: &str) -> Option<()> {
        if self.take(b'{').is_some() {
            loop {
                let name = self.rest;
                self.skip_string()?;
                let name = name.get(..name.len().checked_sub(self.rest.len())?)?;
                self.skip_space();
                self.take(b':')?;
                if parse(name).ok()?.text() == Some(segment) {
                    return Some(());
                }
                self.skip_value()?;
                self.take(b',')?;
            }
        }
        self.take(b'[')?;
        let index: usize = segment.parse().ok()?;
        for _ in 0..index {
            self.skip_value()?;
            self.take(b',')?;
        }
        (self.rest.first() != Some(&b']')).then_some(())
    }

    /// Moves behind the value that starts here and the space after it.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.rest.first()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth = depth.saturating_add(1);
                    self.skip(1);
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.skip(1);
                }
                b',' | b':' => self.skip(1),
                _ => {
                    let ends = |byte: &u8| b",:]}\" \t\r\n".contains(byte);
                    self.skip(self.rest.iter().position(ends).unwrap_or(self.rest.len()));
                }
            }
            self.skip_space();
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.rest = self.rest.strip_prefix(b"\"")?;
        loop {
            let stop = self.rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            let is_end = self.rest.get(stop) == Some(&b'"');
            self.skip(stop.saturating_add(if is_end { 1 } else { 2 }));
            if is_end {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_to_lines_and_columns() {
        let text = b"{\n  \"a/b\": [1, {\"x\\\"\": \"}]\"}, [], -2.5e3],\n  \"c\": {\"d\" : null}\n}\n";
        for (pointer, expected) in [
            ("", Some((1, 1))),
            ("/a~1b", Some((2, 10))),
            ("/a~1b/0", Some((2, 11))),
            ("/a~1b/1/x\"", Some((2, 22))),
            ("/a~1b/2", Some((2, 29))),
            ("/a~1b/3", Some((2, 33))),
            ("/a~1b/4", None),
            ("/c/d", Some((3, 15))),
            ("/c/e", None),
            ("/a~1b/2/0", None),
            ("/c/d/e", None),
        ] {
            assert_eq!(locate(text, pointer), expected, "{pointer}");
        }
        assert_eq!(locate(b"", ""), Some((1, 1)));
        assert_eq!(locate(b"\xef\xbb\xbf{\"a\": 1}", "/a"), Some((1, 7)));
        assert_eq!(locate(b"{\"a", "/a"), None);
    }
}
