use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, quoted};

/// The protocol that an instance speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Scheme {
    /// HTTP/1.1 in clear: the default, because the suite's network is private.
    #[default]
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP/2 in clear with prior knowledge (RFC 9113 section 3.3). `grpc` reads as this.
    H2c,
}

// === impl Scheme ===

impl Scheme {
    /// `http`, `https` or `h2c`, as in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        }
    }

    /// The port of a URL that names none: 443 for `https`, 80 otherwise.
    pub(crate) fn default_port(self) -> &'static str {
        match self {
            Self::Http | Self::H2c => "80",
            Self::Https => "443",
        }
    }
}

impl FromStr for Scheme {
    type Err = FieldError;

    fn from_str(scheme: &str) -> Result<Self, FieldError> {
        match scheme.to_ascii_lowercase().as_str() {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            "h2c" | "grpc" => Ok(Self::H2c),
            _ => Err(FieldError::new("scheme", format!("{} is unknown; use http, https or h2c", quoted(scheme)))),
        }
    }
}

impl TryFrom<String> for Scheme {
    type Error = FieldError;

    fn try_from(scheme: String) -> Result<Self, FieldError> {
        scheme.parse()
    }
}

impl From<Scheme> for &'static str {
    fn from(scheme: Scheme) -> Self {
        scheme.as_str()
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
