//! What is wrong with a table, and where.

use std::fmt;

/// One mistake: `line 12: instances[3].checks[0].interval: "2" is no duration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The line on which the value, or the instance that it is of, begins, from 1; none: the file as a whole.
    pub line: Option<usize>,
    /// Which value, as a path from the top; empty: the file as a whole.
    pub path: String,
    /// What is wrong, and what to change.
    pub reason: String,
}

/// Those of one file, for one line of text.
#[derive(Debug, Clone, Copy)]
pub struct Mistakes<'a>(pub &'a [Mistake]);

/// More than these are counted, not listed, where they stand in one line.
const LISTED_MAX: usize = 5;

// === impl Mistake ===

impl Mistake {
    /// About the file as a whole.
    pub(super) fn of_file(reason: impl Into<String>) -> Self {
        Self { line: None, path: String::new(), reason: reason.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

impl fmt::Display for Mistakes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed: Vec<String> = self.0.iter().take(LISTED_MAX).map(Mistake::to_string).collect();
        f.write_str(&listed.join("; "))?;
        match self.0.len().saturating_sub(LISTED_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
