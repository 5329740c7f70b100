//! A line of a file with a mark under the place that a message is about.

use tidegate_engine::policy::{Mistake, locate};
use unicode_width::UnicodeWidthStr as _;

use crate::screen::{Screen, Style, visible};

/// How many characters are shown before and after the place.
const AROUND: usize = 60;

/// A line and a column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Place {
    /// Where the pointer leads, or the nearest place on the way that exists: a missing member's object.
    pub(crate) fn of_pointer(text: &str, pointer: &str) -> Option<Self> {
        let mut pointer = pointer;
        loop {
            if let Some((line, column)) = locate(text.as_bytes(), pointer) {
                return Some(Self { line, column });
            }
            (pointer, _) = pointer.rsplit_once('/')?;
        }
    }

    /// Where the mistake is: a syntax error says itself where.
    pub(crate) fn of_mistake(text: &str, mistake: &Mistake) -> Option<Self> {
        if mistake.pointer.is_empty() && mistake.found.starts_with("a syntax error") {
            return said(&mistake.found);
        }
        Self::of_pointer(text, &mistake.pointer)
    }
}

/// The place that `serde_json` ends its messages with. Its columns count bytes, from 1, and 0 at a line's start.
fn said(message: &str) -> Option<Place> {
    let (_, position) = message.rsplit_once(" at line ")?;
    let (line, column) = position.split_once(" column ")?;
    Some(Place { line: line.parse().ok()?, column: column.parse::<usize>().ok()?.max(1) })
}

/// The line with a caret below the place, indented, each ending with a newline; empty where there is no such line.
pub(super) fn snippet(text: &str, place: Place, style: Style, screen: Screen) -> String {
    let Some(line) = text.lines().nth(place.line.saturating_sub(1)) else { return String::new() };
    let line = line.replace('\t', " ");
    let column = place.column.saturating_sub(1);
    let skipped = column.saturating_sub(AROUND);
    let shown = |from: usize, count: usize| -> String {
        let part: String = line.chars().skip(from).take(count).collect();
        visible(&part).into_owned()
    };
    let before = shown(skipped, column.saturating_sub(skipped));
    let after = shown(column, AROUND);
    let start = if skipped > 0 { "\u{2026}" } else { "" };
    let end = if line.chars().count() > column.saturating_add(AROUND) { "\u{2026}" } else { "" };
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let bar = screen.paint(Style::Dim, "|");
    let caret = " ".repeat(start.width() + before.width());
    format!(
        "  {} {bar} {start}{before}{after}{end}\n  {margin} {bar} {caret}{}\n",
        screen.paint(Style::Dim, &number),
        screen.paint(style, "^"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_member_stands_at_its_object() {
        let text = "{\n  \"rules\": [\n    {\"name\": \"a\"}\n  ]\n}";
        assert_eq!(Place::of_pointer(text, "/rules/0/rate"), Some(Place { line: 3, column: 5 }));
        assert_eq!(said("a syntax error, EOF at line 2 column 0"), Some(Place { line: 2, column: 1 }));
    }

    #[test]
    fn the_caret_stands_below_its_place() {
        let screen = Screen::plain();
        let place = Place { line: 1, column: 4 };
        assert_eq!(snippet("\ta\u{4f60}b", place, Style::Red, screen), "  1 |  a\u{4f60}b\n    |     ^\n");
        let long = format!("{}x{}", "-".repeat(100), "+".repeat(100));
        let shown = snippet(&long, Place { line: 1, column: 101 }, Style::Red, screen);
        let [source, caret] = shown.lines().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(source.chars().position(|c| c == 'x'), caret.chars().position(|c| c == '^'));
        assert!(source.chars().count() < 140);
    }
}
