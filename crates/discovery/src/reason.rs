use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::field_error::FieldError;

/// Why an instance is degraded, draining or critical: a sentence for people, as `no session with the SMTP server`.
///
/// One line of 1 to [`Reason::MAX_CHARS`] characters without control characters, because it ends up in logs, terminals,
/// lists and e-mails. It is written to etcd whenever it changes, so it holds no counters and no times; and everybody
/// who can list the instances reads it, so it holds no secrets and no addresses of people. Cloning it is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(Arc<str>);

// === impl Reason ===

impl Reason {
    /// The most characters.
    pub const MAX_CHARS: usize = 200;

    /// The sentence as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a reason of any text: what breaks a line becomes a space, and what is too long is cut. `None` when nothing
    /// is left.
    pub fn shorten(text: &str) -> Option<Self> {
        let spaced: String = text.chars().map(|c| if breaks_the_line(c) { ' ' } else { c }).collect();
        let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() <= Self::MAX_CHARS {
            return (!line.is_empty()).then(|| Self(line.into()));
        }
        let cut: String = line.chars().take(Self::MAX_CHARS - 1).collect();
        Some(Self(format!("{}…", cut.trim_end()).into()))
    }
}

/// Controls, line and paragraph separators, and what turns the direction of the text that follows.
fn breaks_the_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl FromStr for Reason {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refuse = |what: String| Err(FieldError::new("reason", what));
        if text.trim().is_empty() {
            return refuse("is empty; leave it out instead".to_owned());
        }
        let chars = text.chars().count();
        if chars > Self::MAX_CHARS {
            return refuse(format!("has {chars} characters; {} are allowed", Self::MAX_CHARS));
        }
        if text.chars().any(breaks_the_line) {
            return refuse("has a control character (a line break, say); write one line".to_owned());
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Reason {
    type Error = FieldError;

    fn try_from(text: String) -> Result<Self, FieldError> {
        text.parse()
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        (*reason.0).into()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for Reason {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_on_one_line_is_a_reason() {
        for text in ["no session with the SMTP server", "é", &"ü".repeat(200)] {
            assert_eq!(text.parse::<Reason>().unwrap().as_str(), text);
        }
        for text in ["", " ", "a\nb", "a\u{1b}[31mb", "a\u{2028}b", "a\u{202e}b", &"x".repeat(201)] {
            assert_eq!(text.parse::<Reason>().unwrap_err().field, "reason", "{text:?}");
        }
    }

    #[test]
    fn any_text_is_shortened_to_a_reason() {
        assert_eq!(Reason::shorten(" connection\r\n refused ").unwrap().as_str(), "connection refused");
        assert_eq!(Reason::shorten("\n\t"), None);
        let long = Reason::shorten(&"ü ".repeat(300)).unwrap();
        assert!(long.chars().count() <= Reason::MAX_CHARS && long.ends_with('…'), "{long}");
        assert_eq!(long.parse::<Reason>().unwrap(), long);
    }
}
