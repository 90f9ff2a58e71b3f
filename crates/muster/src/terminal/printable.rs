//! Text from elsewhere, made harmless for a terminal.

/// The text without anything that a terminal would obey: a log carries what strangers sent.
pub(crate) fn printable(text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    if !text.contains(|c: char| c.is_control() && c != '\t') {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() && c != '\t' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc\u{9b}d\r\n"), "a\\u{1b}[2Jb\tc\\u{9b}d");
    }
}
