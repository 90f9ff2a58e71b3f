use std::collections::BTreeSet;

use discovery::FieldError;
use serde::Serialize;
use service_kit::text::composed;

/// A label to select users by: 1 to [`Tag::MAX_CHARS`] letters and digits of any script, and `- _ . : /`.
///
/// No spaces, commas or quotes: a tag can be written into a URL, a CSV cell and a shell as it is. Case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Tag(String);

/// The tags of a user: a set of at most [`Tags::MAX`], in the order of their characters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Tags(BTreeSet<Tag>);

// === impl Tag ===

impl Tag {
    /// The most characters.
    pub const MAX_CHARS: usize = 64;

    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Tag {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let tag = composed(text);
        let count = tag.chars().count();
        if !(1..=Self::MAX_CHARS).contains(&count) {
            let reason = format!("a tag has {count} characters; give 1 to {}", Self::MAX_CHARS);
            return Err(FieldError::new("tags", reason));
        }
        if let Some(c) = tag.chars().find(|&c| !c.is_alphanumeric() && !"-_.:/".contains(c)) {
            let reason = format!("a tag has {c:?}; letters, digits and - _ . : / are allowed");
            return Err(FieldError::new("tags", reason));
        }
        Ok(Self(tag.into_owned()))
    }
}

// === impl Tags ===

impl Tags {
    /// The most tags of one user.
    pub const MAX: usize = 32;

    /// The set of these; one that comes twice counts once.
    ///
    /// # Errors
    /// A tag is none, or there are too many.
    pub fn parse<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Self, FieldError> {
        Self::bounded(tags.into_iter().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// These and `more`.
    ///
    /// # Errors
    /// Together there are too many.
    pub fn with(&self, more: &Self) -> Result<Self, FieldError> {
        Self::bounded(self.0.union(&more.0).cloned().collect())
    }

    /// These without those that are in `less`.
    #[must_use]
    pub fn without(&self, less: &Self) -> Self {
        Self(self.0.difference(&less.0).cloned().collect())
    }

    fn bounded(tags: BTreeSet<Tag>) -> Result<Self, FieldError> {
        if tags.len() > Self::MAX {
            return Err(FieldError::new("tags", format!("there are {}; {} are allowed", tags.len(), Self::MAX)));
        }
        Ok(Self(tags))
    }

    /// The tags, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Tag::as_str)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes tags that were written through this type before: out of the database.
    pub(crate) fn stored(tags: Vec<String>) -> Self {
        Self(tags.into_iter().map(Tag).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_a_set_in_order() {
        let tags = Tags::parse(["vip", "a/b", "vip", "größe", "EU:de"]).unwrap();
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["EU:de", "a/b", "größe", "vip"]);
    }

    #[test]
    fn a_tag_that_would_have_to_be_quoted_somewhere_is_refused() {
        for (tag, hint) in
            [("", "0 characters"), ("a b", "' '"), ("a,b", "','"), ("a;b", "';'"), ("a\"", "'\"'"), ("\\", "'\\\\'")]
        {
            let error = Tags::parse([tag]).unwrap_err();
            assert!(error.field == "tags" && error.reason.contains(hint), "{tag:?}: {error}");
        }
        assert!(Tags::parse([&*"x".repeat(65)]).is_err());
        let many: Vec<_> = (0..33).map(|n| n.to_string()).collect();
        assert!(Tags::parse(many.iter().map(String::as_str)).unwrap_err().reason.contains("33; 32"));
    }
}
