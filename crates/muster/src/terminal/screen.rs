//! What is printed for a person: as wide as the terminal, and in colour where that is wanted.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _, Write as _},
};

use crate::environment::{Environment, is_given};

/// Where there is no terminal that says how wide it is: in a file, a pipe, a ticket.
const WIDTH: usize = 80;
/// Narrower than this nothing can be read.
const WIDTH_MIN: usize = 40;
/// As many lines as a terminal has when it does not say.
const HEIGHT: usize = 24;

/// How to write to standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// In characters.
    pub(crate) width: usize,
    /// In lines.
    pub(crate) height: usize,
    coloured: bool,
}

/// How a piece of text looks on a terminal with colours; elsewhere it is the text alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Look {
    /// As the rest.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// Of less interest.
    Dim,
    /// Well.
    Good,
    /// Works, but.
    Doubtful,
    /// Broken.
    Bad,
}

// === impl Screen ===

impl Screen {
    /// Standard output as it is. `COLUMNS` counts where there is no terminal.
    pub(crate) fn of_stdout() -> Self {
        let environment: Environment = std::env::vars_os().collect();
        let size = terminal_size::terminal_size_of(io::stdout());
        let columns = environment.get(OsStr::new("COLUMNS")).and_then(|columns| columns.to_str());
        let width = size.map(|(width, _)| usize::from(width.0)).or_else(|| columns?.parse().ok());
        Self {
            width: width.filter(|width| *width > 0).unwrap_or(WIDTH).max(WIDTH_MIN),
            height: size.map(|(_, height)| usize::from(height.0)).filter(|height| *height > 0).unwrap_or(HEIGHT),
            coloured: is_coloured(io::stdout().is_terminal(), &environment),
        }
    }

    /// `text` as it looks (SGR, ECMA-48).
    pub(crate) fn paint(self, look: Look, text: &str) -> String {
        let code = match look {
            Look::Plain => return text.to_owned(),
            _ if !self.coloured || text.is_empty() => return text.to_owned(),
            Look::Bold => "1",
            Look::Dim => "2",
            Look::Good => "32",
            Look::Doubtful => "33",
            Look::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Writes to standard output. A reader that has read enough (`head`) is no failure.
///
/// # Errors
/// It cannot be written.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Colours are for terminals that know them, and for people who have not said no (<https://no-color.org>).
pub(crate) fn is_coloured(is_terminal: bool, environment: &Environment) -> bool {
    let is_dumb = environment.get(OsStr::new("TERM")).is_some_and(|term| term == "dumb");
    is_terminal && !is_dumb && !is_given(environment, "NO_COLOR")
}

#[cfg(test)]
impl Screen {
    /// Of so many characters, for tests.
    pub(crate) fn sample(width: usize, coloured: bool) -> Self {
        Self { width, height: HEIGHT, coloured }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::sample;

    #[test]
    fn colours_are_for_terminals_whose_owner_does_not_object() {
        assert!(is_coloured(true, &sample(&[("TERM", "xterm"), ("NO_COLOR", "")])));
        assert!(!is_coloured(false, &sample(&[])));
        assert!(!is_coloured(true, &sample(&[("NO_COLOR", "1")])));
        assert!(!is_coloured(true, &sample(&[("TERM", "dumb")])));
    }
}
