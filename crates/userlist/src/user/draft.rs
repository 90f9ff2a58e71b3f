use discovery::FieldError;
use serde_json::{Map, Value};

use super::{Attributes, NewUser, Status, Tags, UserName, email};

/// A user as it was written, not checked yet: out of a body, a line of JSON, or a row of CSV.
#[derive(Debug, Default)]
pub struct Draft {
    /// The name; without one, a mistake.
    pub name: Option<String>,
    /// The address; without one, a mistake.
    pub email: Option<String>,
    /// The status, if one is named.
    pub status: Option<String>,
    /// The tags, if any are named.
    pub tags: Option<Vec<String>>,
    /// Tags beside those, or where none are named, beside those that are stored.
    pub added_tags: Tags,
    /// The attributes, if any are named.
    pub attributes: Option<Map<String, Value>>,
}

// === impl Draft ===

impl Draft {
    /// The user that this describes.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn check(self) -> Result<NewUser, Vec<FieldError>> {
        let missing = |field: &'static str| move || FieldError::new(field, "it is missing");
        let name = self.name.ok_or_else(missing("name")).and_then(|name| name.parse::<UserName>());
        let address = self.email.ok_or_else(missing("email")).and_then(|text| email(&text));
        let status = self.status.map(|status| status.parse::<Status>()).transpose();
        let tags =
            self.tags.map(|tags| Tags::parse(tags.iter().map(String::as_str))?.with(&self.added_tags)).transpose();
        let attributes = self.attributes.map(Attributes::new).transpose();
        match (name, address, status, tags, attributes) {
            (Ok(name), Ok(email), Ok(status), Ok(tags), Ok(attributes)) => {
                let added_tags = if tags.is_some() { Tags::default() } else { self.added_tags };
                Ok(NewUser { name, email, status, tags, added_tags, attributes })
            }
            (name, email, status, tags, attributes) => {
                let errors = [name.err(), email.err(), status.err(), tags.err(), attributes.err()];
                Err(errors.into_iter().flatten().collect())
            }
        }
    }
}
