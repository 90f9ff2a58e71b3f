//! What is wrong with a table, and where.
//!
//! A value of a table may be a password, also one that stands in the wrong place: no mistake quotes what could
//! not be read.

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

/// What `serde` found wrong with a value, by its type and what is wanted.
pub(super) fn unquoted_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(", expected ") {
        Some((found, wanted)) if found.starts_with("invalid type: ") => {
            format!("is {}, not {wanted}", type_in(&found["invalid type: ".len()..]))
        }
        Some((found, wanted)) if found.starts_with("invalid ") || found.starts_with("unknown ") => {
            format!("is not valid; give {wanted}")
        }
        Some(_) | None => unquoted(&text),
    }
}

/// The reason without what it quotes.
pub(super) fn unquoted(reason: &str) -> String {
    match (reason.find('"'), reason.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!("{}…{}", &reason[..first], &reason[last + 1..]),
        _ => reason.to_owned(),
    }
}

/// Of `string "x"`, the type only.
fn type_in(found: &str) -> &'static str {
    match found.split([' ', '`', '"']).next() {
        Some("string") => "a string",
        Some("integer" | "floating") => "a number",
        Some("boolean") => "true or false",
        Some("sequence") => "a list",
        Some("map") => "a map",
        Some("null") => "null",
        _ => "of another type",
    }
}

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use discovery::{Address, Scheme};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn reason<T: DeserializeOwned>(value: Value) -> String {
        unquoted_of(&serde_json::from_value::<T>(value).err().unwrap())
    }

    #[test]
    fn no_reason_quotes_the_value_that_is_wrong() {
        const SECRET: &str = r#"hunter2", expected "x"#;
        assert_eq!(reason::<BTreeMap<String, String>>(json!(SECRET)), "is a string, not a map");
        assert_eq!(reason::<Vec<String>>(json!(["a", 7])), "is a number, not a string");
        assert_eq!(reason::<String>(Value::Null), "is null, not a string");
        for reason in [reason::<Scheme>(json!(SECRET)), reason::<Address>(json!(SECRET)), reason::<u8>(json!(SECRET))] {
            assert!(!reason.contains("hunter") && reason.len() > 10, "{reason}");
        }
    }
}
