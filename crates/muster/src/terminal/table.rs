//! Text in columns.

use crate::terminal::screen::{Look, Screen};

/// A last column narrower than this is not worth reading: its text goes below the line instead.
const TEXT_MIN: usize = 24;
/// How far what goes below a line is indented.
const INDENT: usize = 4;

/// One row: cells, how each looks, and a text of any length.
#[derive(Debug, Clone)]
pub(crate) struct Row<const N: usize> {
    pub(crate) cells: [String; N],
    pub(crate) looks: [Look; N],
    pub(crate) text: String,
}

/// Lays out `rows` under `head`, two spaces between columns, nothing after the last. Widths are counted in characters.
pub(crate) fn layout<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let widths = widths(std::iter::once(&head).chain(rows));
    std::iter::once(&head).chain(rows).map(|line| cells(line, &widths, |_, cell| cell) + "\n").collect()
}

/// The same, with a last column of texts, called `last`, that fits `screen`: wrapped beside the others, or below them
/// where that would be too narrow.
pub(crate) fn fitted<const N: usize>(head: [&str; N], last: &str, rows: &[Row<N>], screen: Screen) -> String {
    let head = head.map(str::to_owned);
    let widths = widths(std::iter::once(&head).chain(rows.iter().map(|row| &row.cells)));
    let beside = widths.iter().map(|width| width + 2).sum::<usize>();
    let is_beside = beside + TEXT_MIN <= screen.width;
    let indent = if is_beside { beside } else { INDENT };
    let title = if is_beside && rows.iter().any(|row| !row.text.is_empty()) { last } else { "" };
    let mut text = screen.paint(Look::Bold, &line(&cells(&head, &widths, |_, cell| cell), beside, title)) + "\n";
    for row in rows {
        let mut lines = wrapped(&row.text, screen.width - indent).into_iter();
        let first = if is_beside { lines.next().unwrap_or_default() } else { String::new() };
        let painted = cells(&row.cells, &widths, |at, cell| screen.paint(row.looks[at], &cell));
        let plain = cells(&row.cells, &widths, |_, cell| cell).chars().count();
        let gap = if first.is_empty() { 0 } else { beside - plain };
        text += &format!("{painted}{:gap$}{first}\n", "");
        text.extend(lines.map(|more| format!("{:indent$}{more}\n", "")));
    }
    text
}

/// How wide `rows` are without their texts.
pub(crate) fn width<const N: usize>(head: [&str; N], rows: &[Row<N>]) -> usize {
    let head = head.map(str::to_owned);
    widths(std::iter::once(&head).chain(rows.iter().map(|row| &row.cells))).iter().map(|width| width + 2).sum::<usize>()
        - 2
}

/// `text` in lines of at most `width` characters where its words allow that.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn widths<'a, const N: usize>(lines: impl Iterator<Item = &'a [String; N]>) -> [usize; N] {
    lines.fold([0; N], |widths, line| std::array::from_fn(|at| widths[at].max(line[at].chars().count())))
}

/// The cells of one line, each as wide as its column but for the last that holds something.
fn cells<const N: usize>(line: &[String; N], widths: &[usize; N], paint: impl Fn(usize, String) -> String) -> String {
    let used = line.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
    let padded = |at: usize| {
        let cell = &line[at];
        let width = if at + 1 == used { 0 } else { widths[at] };
        let gap = width.saturating_sub(cell.chars().count());
        format!("{}{:gap$}", paint(at, cell.clone()), "")
    };
    (0..used).map(padded).collect::<Vec<_>>().join("  ")
}

/// `start`, and `rest` from the column `at` on.
fn line(start: &str, at: usize, rest: &str) -> String {
    let gap = if rest.is_empty() { 0 } else { at.saturating_sub(start.chars().count()) };
    format!("{start}{:gap$}{rest}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 2], text: &str) -> Row<2> {
        Row { cells: cells.map(str::to_owned), looks: [Look::Plain, Look::Bad], text: text.to_owned() }
    }

    #[test]
    fn columns_line_up_and_lines_have_no_blanks_at_the_end() {
        let rows = [["mail".to_owned(), "7".to_owned()], ["userlist".to_owned(), String::new()]];
        assert_eq!(layout(["service", "n"], &rows), "service   n\nmail      7\nuserlist\n");
    }

    #[test]
    fn a_text_is_wrapped_beside_the_columns_or_goes_below_them() {
        let rows =
            [row(["mail", "passing"], ""), row(["web", "critical"], "its database has gone away and is not back")];
        let beside = fitted(["service", "state"], "why", &rows, Screen::sample(48, false));
        let expected = "service  state     why\nmail     passing\nweb      critical  its database has gone away\n\
                        \x20                  and is not back\n";
        assert_eq!(beside, expected);
        let below = fitted(["service", "state"], "why", &rows, Screen::sample(40, false));
        let expected = "service  state\nmail     passing\nweb      critical\n    its database has gone away and is\n    not back\n";
        assert_eq!(below, expected);
        assert!(beside.lines().all(|line| line.len() <= 48) && below.lines().all(|line| line.len() <= 40));
    }

    #[test]
    fn colours_do_not_move_columns() {
        let rows = [row(["web", "critical"], "why not"), row(["mail", "passing"], "well")];
        let plain = fitted(["service", "state"], "why", &rows, Screen::sample(60, false));
        let coloured = fitted(["service", "state"], "why", &rows, Screen::sample(60, true));
        let stripped =
            ["\x1b[1m", "\x1b[31m", "\x1b[0m"].iter().fold(coloured.clone(), |text, code| text.replace(code, ""));
        assert!(coloured != plain && stripped == plain, "{coloured:?}");
    }
}
