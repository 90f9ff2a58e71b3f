//! Pieces of SQL statements.

/// `?, ?, ?`: for a list of `count` values.
pub(super) fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}
