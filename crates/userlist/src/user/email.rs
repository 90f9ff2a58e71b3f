//! The address of a user: the one type of all services, with its mistakes under the name of the field.

use discovery::FieldError;

pub use service_kit::email::EmailAddress;

/// Reads the field `email`.
///
/// # Errors
/// It is no address; says what to change.
pub(crate) fn email(text: &str) -> Result<EmailAddress, FieldError> {
    text.parse().map_err(|error: service_kit::email::InvalidEmail| FieldError::new("email", error.to_string()))
}
