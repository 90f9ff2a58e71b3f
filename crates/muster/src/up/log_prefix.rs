//! `etcd-1     │ …`: which process says a line, in a colour of its own.

use crate::terminal::printable::printable;

/// Colours that are readable on dark and on light terminals (SGR codes, ECMA-48). Neighbours differ clearly.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "96", "93", "92", "95", "94"];

/// Puts names in front of lines. Pure.
#[derive(Debug, Clone)]
pub(crate) struct LogPrefix {
    names: Vec<String>,
    width: usize,
    coloured: bool,
}

// === impl LogPrefix ===

impl LogPrefix {
    /// For these names, and for `muster` itself.
    pub(crate) fn new(names: Vec<String>, coloured: bool) -> Self {
        let width = names.iter().map(String::len).chain([OWN.len()]).max().unwrap_or_default();
        Self { names, width, coloured }
    }

    /// One line of the process `name`.
    pub(crate) fn line(&self, name: &str, text: &str) -> String {
        let text = printable(text);
        let width = self.width;
        if !self.coloured {
            return format!("{name:width$} │ {text}");
        }
        let colour = match self.names.iter().position(|known| known == name) {
            Some(index) => COLOURS[index % COLOURS.len()],
            // Bold, in the terminal's own colour.
            None => "1",
        };
        format!("\x1b[{colour}m{name:width$} │\x1b[0m {text}")
    }

    /// One line of `muster` itself.
    pub(crate) fn own(&self, text: &str) -> String {
        self.line(OWN, text)
    }
}

const OWN: &str = "muster";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_width() {
        let prefix = LogPrefix::new(vec!["mail-1".to_owned(), "userlist-1".to_owned()], false);
        assert_eq!(prefix.line("mail-1", "hello\r\n"), "mail-1     │ hello");
        assert_eq!(prefix.own("hello"), "muster     │ hello");
    }

    #[test]
    fn each_process_has_a_colour_of_its_own() {
        let names: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
        let prefix = LogPrefix::new(names.clone(), true);
        let lines: std::collections::BTreeSet<String> =
            names.iter().map(|name| prefix.line(name, "").replace(name.as_str(), "")).collect();
        assert_eq!(lines.len(), 10);
        assert!(prefix.line("p0", "x").ends_with(" x"), "the text itself is not coloured");
    }

    #[test]
    fn a_log_line_cannot_command_the_terminal() {
        let prefix = LogPrefix::new(Vec::new(), false);
        assert_eq!(prefix.own("a\x1b[2Jb\tc\u{9b}d"), "muster │ a\\u{1b}[2Jb\tc\\u{9b}d");
    }
}
