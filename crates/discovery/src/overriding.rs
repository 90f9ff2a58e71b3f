//! An operator's word about an instance, and how it is written to etcd.
//!
//! Written as a value: `draining?incarnation=4f2a90c1d3e5b677&author=kim&reason=disk%20swap&at_ms=1764500000000`, the
//! status first and the incarnation, if there is one, before the rest. [`Override::NAMED`] and what follows it is
//! therefore a range of values in etcd's order, so that a transaction can ask whether an override is for a given life.
//!
//! Read: that, its parameters in any order, and the plain `draining` of earlier versions. Unknown parameters are
//! skipped.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    FieldError, Incarnation, LeaseId, Status,
    field_error::quoted,
    text,
    value::{decode, encode},
};

/// What an operator says about an instance, until it is taken back or the life that it is about has ended.
///
/// The JSON form (serde) is the etcd value, as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Override {
    /// What the instance is to others.
    pub status: Status,
    /// The life that it is about; none: the present holder of the id, until it is taken back.
    pub incarnation: Option<Incarnation>,
    /// Who said so. 1 to 64 bytes.
    pub author: Option<String>,
    /// Why. 1 to 256 bytes.
    pub reason: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: Option<u64>,
}

// === impl Override ===

impl Override {
    /// Most bytes of [`Override::author`].
    pub const AUTHOR_MAX_BYTES: usize = 64;
    /// Most bytes of [`Override::reason`].
    pub const REASON_MAX_BYTES: usize = 256;

    /// Values that name an incarnation start with this, followed by its 16 digits.
    pub const NAMED: &str = "draining?incarnation=";

    /// Whether it is about an instance that lives by `lease` (none: a key that was written for good).
    pub fn applies_to(&self, lease: Option<LeaseId>) -> bool {
        self.incarnation.is_none_or(|incarnation| Some(incarnation.0) == lease)
    }

    /// Whether author and reason are within their bounds and free of control characters.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn check(&self) -> Result<(), FieldError> {
        if let Some(author) = &self.author {
            text::check("author", author, Self::AUTHOR_MAX_BYTES)?;
        }
        if let Some(reason) = &self.reason {
            text::check("reason", reason, Self::REASON_MAX_BYTES)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), FieldError> {
        let some = |value: String| Some(value).filter(|value| !value.is_empty());
        match name {
            "incarnation" => self.incarnation = Some(value.parse()?),
            "author" => self.author = some(value),
            "reason" => self.reason = some(value),
            "at_ms" => {
                let wrong = |_| FieldError::new("at_ms", format!("{} is not a number", quoted(&value)));
                self.at_ms = Some(value.parse().map_err(wrong)?);
            }
            _ => {}
        }
        Ok(())
    }
}

impl From<Status> for Override {
    /// About the present holder of the id, without an author: what earlier versions wrote.
    fn from(status: Status) -> Self {
        Self { status, incarnation: None, author: None, reason: None, at_ms: None }
    }
}

impl FromStr for Override {
    type Err = FieldError;

    fn from_str(value: &str) -> Result<Self, FieldError> {
        let (status, query) = value.trim().split_once('?').unwrap_or((value.trim(), ""));
        let mut order = Self::from(status.parse::<Status>()?);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            order.set(&decode(name)?, decode(value)?)?;
        }
        order.check()?;
        Ok(order)
    }
}

impl TryFrom<String> for Override {
    type Error = FieldError;

    fn try_from(value: String) -> Result<Self, FieldError> {
        value.parse()
    }
}

impl From<Override> for String {
    fn from(order: Override) -> Self {
        order.to_string()
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)?;
        let incarnation = self.incarnation.map(|incarnation| ("incarnation", incarnation.to_string()));
        let author = self.author.as_ref().map(|author| ("author", encode(author).to_string()));
        let reason = self.reason.as_ref().map(|reason| ("reason", encode(reason).to_string()));
        let at_ms = self.at_ms.map(|at_ms| ("at_ms", at_ms.to_string()));
        for (n, (name, value)) in [incarnation, author, reason, at_ms].into_iter().flatten().enumerate() {
            let separator = if n == 0 { '?' } else { '&' };
            write!(f, "{separator}{name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Override {
        Override {
            incarnation: Some(Incarnation(LeaseId(255))),
            author: Some("kim".into()),
            reason: Some("disk swap & more, 100 %".into()),
            at_ms: Some(1_764_500_000_000),
            ..Override::from(Status::Draining)
        }
    }

    #[test]
    fn an_override_is_read_as_it_is_written() {
        let written = full().to_string();
        let expected = "draining?incarnation=00000000000000ff&author=kim&reason=disk%20swap%20%26%20more,%20100%20%25";
        assert_eq!(written, format!("{expected}&at_ms=1764500000000"));
        assert!(written.starts_with(Override::NAMED));
        assert_eq!(written.parse(), Ok(full()));
        let json = serde_json::to_string(&full()).unwrap();
        assert_eq!(serde_json::from_str::<Override>(&json).unwrap(), full());
    }

    #[test]
    fn the_plain_word_of_earlier_versions_is_about_any_life_of_the_id() {
        for value in ["draining", " draining\n", "draining?", "draining?later=1"] {
            assert_eq!(value.parse(), Ok(Override::from(Status::Draining)), "{value:?}");
        }
        assert_eq!(Override::from(Status::Draining).to_string(), "draining");
        assert!(Override::from(Status::Draining).applies_to(None));
        assert!(Override::from(Status::Draining).applies_to(Some(LeaseId(1))));
    }

    #[test]
    fn one_for_a_life_is_about_no_other() {
        assert!(full().applies_to(Some(LeaseId(255))));
        assert!(!full().applies_to(Some(LeaseId(256))));
        assert!(!full().applies_to(None));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (value, field) in [
            ("sleeping", "status"),
            ("", "status"),
            ("draining?incarnation=1", "incarnation"),
            ("draining?at_ms=x", "at_ms"),
            ("draining?author=%00", "author"),
            ("draining?reason=%ff", "value"),
        ] {
            assert_eq!(value.parse::<Override>().unwrap_err().field, field, "{value:?}");
        }
        let long = Override { reason: Some("x".repeat(257)), ..full() };
        assert_eq!(long.check().unwrap_err().field, "reason");
    }
}
