//! Text in columns.

/// Lays out `rows` under `head`, two spaces between columns, nothing after the last. Widths are counted in characters.
pub(crate) fn layout<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let lines = || std::iter::once(&head).chain(rows);
    let widths: [usize; N] =
        std::array::from_fn(|column| lines().map(|line| line[column].chars().count()).max().unwrap_or_default());
    let mut text = String::new();
    for line in lines() {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_blanks_at_the_end() {
        let rows = [["mail".to_owned(), "7".to_owned()], ["userlist".to_owned(), String::new()]];
        assert_eq!(layout(["service", "n"], &rows), "service   n\nmail      7\nuserlist\n");
    }
}
