//! What is written: colours, tables and JSON. Everything passes through one place that lets no control character out,
//! so that nothing that a client, a log line or a server chose can move a terminal's cursor.

mod table;
mod visible;

pub(crate) use table::{Align, Table};
pub(crate) use visible::visible;

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Style {
    /// The select-graphic-rendition sequence of ECMA-48 that begins it.
    const fn begin(self) -> &'static str {
        match self {
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
        }
    }
}

/// The sequence that ends every style.
const END: &str = "\x1b[0m";

/// Where results go, and how they look there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    /// The result is to be JSON.
    pub(crate) is_json: bool,
    has_colours: bool,
    is_terminal: bool,
}

impl Screen {
    /// Standard output. Colours only on a terminal, and not where `NO_COLOR` is set (<https://no-color.org>).
    pub(crate) fn of_stdout(is_json: bool) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { is_json, has_colours: is_terminal && !no_color && !is_dumb, is_terminal }
    }

    /// Text without colours: for standard error, and inside of JSON.
    pub(crate) const fn plain() -> Self {
        Self { is_json: false, has_colours: false, is_terminal: false }
    }

    /// The text in a style, where there are colours.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.has_colours { format!("{}{text}{END}", style.begin()) } else { text.to_owned() }
    }

    /// Writes lines for people.
    pub(crate) fn print(self, text: &str) -> Result<(), Failure> {
        write(&harmless(text, self.has_colours))
    }

    /// Writes a value for machines, on lines of its own.
    pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| format!("cannot write JSON: {error}"))?;
        write(&format!("{}\n", visible::escape_json(&text)))
    }

    /// Writes a text of our own making that is not for a terminal.
    pub(crate) fn print_script(text: &str) -> Result<(), Failure> {
        write(text)
    }

    /// Empties a terminal's screen, before it is filled anew.
    pub(crate) fn clear(self) -> Result<(), Failure> {
        if self.is_terminal { write("\x1b[H\x1b[2J") } else { Ok(()) }
    }
}

/// Writes a line about what went wrong, or might, to standard error.
pub(crate) fn complain(text: &str) {
    // Who cannot even be told that has no better place to be told so.
    let _ = writeln!(std::io::stderr(), "{}", harmless(text, false));
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `tidegate list | head` is done when head is.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| Failure(format!("cannot write: {error}"))),
    }
}

/// The text without control characters, but for line ends and, where there are colours, the styles of [`Style`].
fn harmless(text: &str, has_colours: bool) -> String {
    const STYLES: [Style; 5] = [Style::Bold, Style::Dim, Style::Red, Style::Green, Style::Yellow];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let sequence = STYLES.iter().map(|style| style.begin()).chain([END]).find(|it| rest.starts_with(it));
        if let Some(sequence) = sequence.filter(|_| has_colours) {
            out.push_str(sequence);
            rest = rest.strip_prefix(sequence).unwrap_or_default();
            continue;
        }
        if next == '\n' {
            out.push(next);
        } else {
            visible::push(&mut out, next);
        }
        rest = rest.get(next.len_utf8()..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_our_own_styles_gets_through() {
        let text = "\x1b[31mred\x1b[0m \x1b[2J\r\x07\u{9b}2J\u{202e}\n";
        assert_eq!(harmless(text, true), "\x1b[31mred\x1b[0m \\u{1b}[2J\\u{d}\\u{7}\\u{9b}2J\\u{202e}\n");
        assert_eq!(harmless(text, false), "\\u{1b}[31mred\\u{1b}[0m \\u{1b}[2J\\u{d}\\u{7}\\u{9b}2J\\u{202e}\n");
    }
}
