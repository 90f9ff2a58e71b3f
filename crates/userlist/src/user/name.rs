use std::{fmt, str::FromStr};

use discovery::FieldError;
use serde::Serialize;
use service_kit::text::{code_point, composed, invisible};

/// The name of a user: 1 to [`UserName::MAX_CHARS`] characters of any script, case-sensitive.
///
/// Refused, rather than quietly changed into something else: white space at either end (MySQL's collations ignore it,
/// SQLite's do not), characters that cannot be seen, and `.` and `..`, which no URL can carry as a path segment
/// (WHATWG URL, "dot path segment"). Everything else may be a name, `Robert'); DROP TABLE users;--` included.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserName(String);

// === impl UserName ===

impl UserName {
    /// The most characters (Unicode scalar values, after normalization): what the column of the database holds.
    pub const MAX_CHARS: usize = 128;

    /// The name as text, in Normalization Form C.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a name that was written through this type before: out of the database.
    pub(crate) fn stored(name: String) -> Self {
        Self(name)
    }
}

impl FromStr for UserName {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refuse = |reason: String| Err(FieldError::new("name", reason));
        let name = composed(text);
        let count = name.chars().count();
        if count == 0 {
            return refuse("it is empty; give 1 to 128 characters".to_owned());
        }
        if count > Self::MAX_CHARS {
            return refuse(format!("it has {count} characters; {} are allowed", Self::MAX_CHARS));
        }
        if let Some(c) = invisible(&name) {
            return refuse(format!("it has the character {}, which cannot be seen; remove it", code_point(c)));
        }
        if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
            return refuse("it begins or ends with white space; remove that".to_owned());
        }
        if matches!(&*name, "." | "..") {
            return refuse("it cannot be written in a URL; give a name that is not only dots".to_owned());
        }
        Ok(Self(name.into_owned()))
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserName(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<UserName, FieldError> {
        text.parse()
    }

    #[test]
    fn names_of_any_script_are_kept_as_they_are() {
        for name in [
            "dong",
            "Dong",
            "董",
            "José",
            "O'Brien",
            "علی\u{200c}رضا",
            "👩‍👩‍👧",
            "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
            "a b",
            "a/b",
            "Robert'); DROP TABLE users;--",
            "%",
            "\\",
            "...",
            &"x".repeat(128),
            &"😀".repeat(128),
        ] {
            assert_eq!(parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_looks_like_another_name_is_refused() {
        for (name, hint) in [
            ("", "empty"),
            (" dong", "white space"),
            ("dong ", "white space"),
            ("dong\u{3000}", "white space"),
            ("do\0ng", "U+0000"),
            ("do\nng", "U+000A"),
            ("do\u{7f}ng", "U+007F"),
            ("do\u{200b}ng", "U+200B"),
            ("\u{202e}gnod", "U+202E"),
            ("\u{feff}dong", "U+FEFF"),
            (".", "URL"),
            ("..", "URL"),
            (&"x".repeat(129), "129 characters; 128"),
        ] {
            let error = parse(name).unwrap_err();
            assert!(error.field == "name" && error.reason.contains(hint), "{name:?}: {error}");
        }
    }

    #[test]
    fn one_name_composed_in_two_ways_is_one_name() {
        assert_eq!(parse("Jose\u{301}").unwrap(), parse("Jos\u{e9}").unwrap());
        assert_ne!(parse("Jose").unwrap(), parse("Jos\u{e9}").unwrap());
    }

    #[test]
    fn a_name_does_not_reach_a_log_by_debug() {
        assert_eq!(format!("{:?}", parse("dong").unwrap()), "UserName(…)");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_accepted_is_stable_and_bounded(text in "\\PC{0,140}|.{0,140}|(?s).{0,20}") {
            if let Ok(name) = parse(&text) {
                prop_assert_eq!(&parse(name.as_str()).unwrap(), &name);
                prop_assert!(name.as_str().chars().count() <= UserName::MAX_CHARS);
                prop_assert!(name.as_str().len() <= 4 * UserName::MAX_CHARS);
                prop_assert_eq!(name.as_str().trim(), name.as_str());
                prop_assert!(!name.as_str().contains(char::is_control));
            }
        }
    }
}
