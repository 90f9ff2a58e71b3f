//! Which users to list, to export or to change.

use std::hash::{DefaultHasher, Hash, Hasher};

use discovery::FieldError;
use service_kit::text::case_folded;
use service_kit::time::UnixMillis;

use super::sort::Sort;
use crate::user::{Attributes, EmailAddress, Status, Tag, UserName};

/// Which users: those for whom everything holds that is not `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// With this status.
    pub status: Option<Status>,
    /// With this tag among theirs.
    pub tag: Option<Tag>,
    /// With this text somewhere in name or address, whatever its case and however the domain is spelt. Reads all rows
    /// that the rest lets through.
    pub text: Option<SearchText>,
    /// With this address, however it is spelt.
    pub email: Option<EmailAddress>,
    /// With this name.
    pub name: Option<UserName>,
    /// With each of these among their attributes.
    pub attributes: Vec<AttributeFilter>,
    /// Created in this time.
    pub created: Period,
    /// Changed last in this time.
    pub updated: Period,
}

/// A text to search for, in the form in which it is stored to be found.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SearchText(String);

/// A member of the attributes, and the value that it must have.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AttributeFilter {
    /// As `JSON_EXTRACT` and its like have it: `$."plan"."name"`.
    path: String,
    /// What the member may be, as JSON.
    values: [String; 2],
}

/// From one moment to before another; open where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Period {
    /// At this moment or later.
    pub since: Option<UnixMillis>,
    /// Before this moment.
    pub before: Option<UnixMillis>,
}

// === impl Filter ===

impl Filter {
    /// Whether only few users may be meant, of many: then reading the whole table in the order in which it is stored
    /// takes a tenth of the time of reading it in the order of an index, row by row, until a page is full.
    pub(crate) fn is_selective(&self) -> bool {
        let Self { status, tag, text, attributes, created, .. } = self;
        let is_rare = matches!(status, Some(Status::Unsubscribed | Status::Bounced));
        self.is_scan() && (is_rare || tag.is_some() || text.is_some() || !attributes.is_empty() || created.is_some())
    }

    /// Whether rows have to be read that are not listed, of unknown number: no index leads to those with a
    /// status, a tag, a text or an attribute, nor in the order of the list to those of a time.
    pub(crate) fn is_scan(&self) -> bool {
        let Self { email, name, .. } = self;
        email.is_none() && name.is_none() && !self.is_unrestricted()
    }

    /// Whether all users match.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        *self == Self::default()
    }

    /// A number that is the same for the same filter and order, to see whether a cursor belongs to them. Not secret.
    ///
    /// It is the same in the release before, and for filters of that release in the next: a broadcast of `mail` goes
    /// through the list for hours, and instances of both releases answer it while one replaces the other. So what is
    /// added to a filter counts only where it is given.
    #[must_use]
    pub fn fingerprint(&self, sort: Sort) -> u64 {
        let Self { status, tag, text, email, name, attributes, created, updated } = self;
        let mut hasher = DefaultHasher::new();
        (status, tag, text, email, name, sort).hash(&mut hasher);
        let is_new = !attributes.is_empty() || created.is_some() || updated.is_some();
        if is_new {
            (attributes, created, updated).hash(&mut hasher);
        }
        hasher.finish()
    }
}

// === impl SearchText ===

impl SearchText {
    /// The most characters that are looked for.
    pub const MAX_CHARS: usize = 128;

    /// None when there is nothing to look for.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = case_folded(text.trim());
        (!text.is_empty()).then_some(Self(text))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SearchText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SearchText(…)")
    }
}

// === impl AttributeFilter ===

impl AttributeFilter {
    /// The member `key`, with dots into objects (`plan.name`), is the text `value`; or, where `value` is a number,
    /// `true` or `false`, that.
    ///
    /// # Errors
    /// The key cannot be looked for.
    pub fn new(key: &str, value: &str) -> Result<Self, FieldError> {
        let wrong = |reason: String| FieldError::new("attributes", reason);
        let mut path = "$".to_owned();
        let mut levels = 1;
        for name in key.split('.') {
            levels += 1;
            if !(1..=Attributes::KEY_MAX_CHARS).contains(&name.chars().count()) || levels > Attributes::MAX_DEPTH {
                return Err(wrong(
                    "write attributes.KEY=VALUE, with dots into objects, as attributes.plan.name=pro".to_owned(),
                ));
            }
            if let Some(c) = name.chars().find(|&c| c.is_control() || c == '"' || c == '\\') {
                return Err(wrong(format!("a key with {c:?} cannot be looked for")));
            }
            path.push_str(&format!(".\"{name}\""));
        }
        let text = serde_json::Value::from(value).to_string();
        let literal = serde_json::from_str::<serde_json::Value>(value).ok();
        let literal = literal.filter(|literal| literal.is_number() || literal.is_boolean());
        let literal = literal.map_or_else(|| text.clone(), |literal| literal.to_string());
        Ok(Self { path, values: [text, literal] })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn values(&self) -> &[String; 2] {
        &self.values
    }
}

impl std::fmt::Debug for AttributeFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttributeFilter(…)")
    }
}

// === impl Period ===

impl Period {
    fn is_some(self) -> bool {
        self.since.is_some() || self.before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_looked_for_as_text_and_as_what_it_reads_as() {
        for (key, value, path, values) in [
            ("plan", "pro", "$.\"plan\"", ["\"pro\"", "\"pro\""]),
            ("a.b-c d", "7", "$.\"a\".\"b-c d\"", ["\"7\"", "7"]),
            ("a", "true", "$.\"a\"", ["\"true\"", "true"]),
            ("a", "null", "$.\"a\"", ["\"null\"", "\"null\""]),
            ("größe", "\"", "$.\"größe\"", ["\"\\\"\"", "\"\\\"\""]),
        ] {
            let filter = AttributeFilter::new(key, value).unwrap();
            assert_eq!((filter.path(), filter.values()), (path, &values.map(str::to_owned)), "{key}={value}");
        }
        for key in ["", "a.", ".a", "a..b", "a\"b", "a\\b", "a\nb", "a.b.c.d.e.f.g.h", &"x".repeat(65)] {
            assert_eq!(AttributeFilter::new(key, "x").unwrap_err().field, "attributes", "{key}");
        }
    }
}
