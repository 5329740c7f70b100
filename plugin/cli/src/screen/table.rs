//! Columns of text, as wide as they need to be: readable on a terminal, and cut by `awk` where they are piped.

use unicode_width::UnicodeWidthStr as _;

use super::{Screen, Style, visible};

/// A cell longer than this is cut: the whole is in `--json`.
const WIDEST: usize = 60;

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with a heading for each column.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<(String, Option<Style>)>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new<T: AsRef<str>>(columns: &[(T, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| (cut(&visible(name.as_ref())), *align));
        Self { columns: columns.collect(), rows: Vec::new() }
    }

    /// Adds a row; its cells are made harmless and cut.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.painted(cells.into_iter().map(|cell| (cell, None)));
    }

    /// Adds a row of cells with styles.
    pub(crate) fn painted<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = (T, Option<Style>)>) {
        self.rows.push(cells.into_iter().map(|(cell, style)| (cut(&visible(cell.as_ref())), style)).collect());
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The whole, a line each row.
    pub(crate) fn text(&self, screen: Screen) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|(cell, _)| cell.width());
            cells.chain(self.columns.get(column).map(|(name, _)| name.width())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let heading: Vec<(String, Option<Style>)> =
            self.columns.iter().map(|(name, _)| (name.clone(), Some(Style::Bold))).collect();
        let mut out = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            // Spaces are owed until text follows them: lines do not end in white space.
            let mut owed = 0;
            for (((cell, style), (_, align)), width) in row.iter().zip(&self.columns).zip(&widths) {
                let padding = width.saturating_sub(cell.width());
                if cell.is_empty() {
                    owed += padding;
                } else {
                    let before = if *align == Align::Right { padding } else { 0 };
                    out.push_str(&" ".repeat(owed + before));
                    out.push_str(&style.map_or_else(|| cell.clone(), |style| screen.paint(style, cell)));
                    owed = padding - before;
                }
                owed += 2;
            }
            out.push('\n');
        }
        out
    }
}

fn cut(text: &str) -> String {
    if text.width() <= WIDEST {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(WIDEST - 1).collect();
    while kept.width() >= WIDEST {
        kept.pop();
    }
    kept.push('\u{2026}');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_where_the_text_does() {
        let mut table = Table::new(&[("NAME", Align::Left), ("RATE", Align::Right), ("PATHS", Align::Left)]);
        table.row(["a", "100", ""]);
        table.row(["\u{4f60}\u{597d}b\n", "7", "/x"]);
        let text = table.text(Screen::plain());
        assert_eq!(text, "NAME        RATE  PATHS\na            100\n\u{4f60}\u{597d}b\\u{a}     7  /x\n");
        assert_eq!(cut(&"\u{4f60}".repeat(40)).width(), 59);
    }
}
