use std::borrow::Cow;

/// What is wrong with one field of an input, in words for the person who sent it.
///
/// `Display` reads `port: 0 is not a port; give one from 1 to 65535`. The reason quotes at most 64 characters of the
/// input, with control characters escaped, so that it may be logged and sent back as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// The field as its sender knows it: `port`, `meta.owner`, `ttl_ms`.
    pub field: Cow<'static, str>,
    /// What is wrong and what to change.
    pub reason: String,
}

// === impl FieldError ===

impl FieldError {
    /// Blames `field` for `reason`.
    pub fn new(field: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// The same reason under the name by which this sender knows the field (`name` for a service, say).
    #[must_use]
    pub fn under(self, field: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), ..self }
    }
}

/// `input` in quotes, escaped and cut to a length that fits into an error message.
pub(crate) fn quoted(input: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    match input.char_indices().nth(SHOWN_CHARS) {
        None => format!("{input:?}"),
        Some((end, _)) => format!("{:?}…", &input[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_input_is_escaped_and_short() {
        assert_eq!(quoted("a\n\"b"), r#""a\n\"b""#);
        assert_eq!(quoted(&"ä".repeat(65)), format!("\"{}\"…", "ä".repeat(64)));
    }

    #[test]
    fn the_message_names_the_field_first() {
        let error = FieldError::new("host", "is empty").under("address");
        assert_eq!(error.to_string(), "address: is empty");
    }
}
