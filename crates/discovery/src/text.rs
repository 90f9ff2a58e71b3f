//! What free text in an instance may look like.

use crate::field_error::FieldError;

/// Accepts 1 to `max_bytes` bytes of UTF-8 without control characters.
///
/// Control characters are refused because the text ends up in logs, terminals and HTTP headers.
pub(crate) fn check(field: &'static str, text: &str, max_bytes: usize) -> Result<(), FieldError> {
    if text.is_empty() {
        return Err(FieldError::new(field, "is empty; leave it out instead"));
    }
    check_or_empty(field, text, max_bytes)
}

/// [`check`], but nothing at all is fine too.
pub(crate) fn check_or_empty(field: &'static str, text: &str, max_bytes: usize) -> Result<(), FieldError> {
    if text.len() > max_bytes {
        return Err(FieldError::new(field, format!("has {} bytes; {max_bytes} are allowed", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::new(field, "has a control character (a line break, say); remove it"));
    }
    Ok(())
}
