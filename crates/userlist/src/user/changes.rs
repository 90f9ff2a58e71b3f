use discovery::FieldError;
use serde_json::{Map, Value};
use service_kit::time::UnixMillis;

use super::{Attributes, EmailAddress, NewUser, Status, Tags, User, UserName};

/// What is to be different about a user; what is not named stays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// Another name.
    pub name: Option<UserName>,
    /// Another address.
    pub email: Option<EmailAddress>,
    /// Another status.
    pub status: Option<Status>,
    /// Other tags, all of them.
    pub tags: Option<Tags>,
    /// Tags beside those.
    pub added_tags: Tags,
    /// Tags that none of them is to be.
    pub removed_tags: Tags,
    /// Other attributes.
    pub attributes: Option<AttributeChanges>,
}

/// What is to be different about attributes.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeChanges {
    /// These instead of all others.
    Replace(Attributes),
    /// A merge patch (RFC 7396).
    Merge(Map<String, Value>),
}

// === impl Changes ===

impl Changes {
    /// `user` with these changes, as of `now`; the same version when nothing is different.
    ///
    /// # Errors
    /// The merged attributes are too large, or there are too many tags.
    pub(crate) fn applied_to(&self, user: &User, now: UnixMillis) -> Result<User, FieldError> {
        let mut changed = user.clone();
        changed.name = self.name.clone().unwrap_or(changed.name);
        changed.email = self.email.clone().unwrap_or(changed.email);
        changed.status = self.status.unwrap_or(changed.status);
        changed.tags = self.tags.clone().unwrap_or(changed.tags);
        changed.tags = changed.tags.without(&self.removed_tags).with(&self.added_tags)?;
        match &self.attributes {
            Some(AttributeChanges::Replace(attributes)) => changed.attributes = attributes.clone(),
            Some(AttributeChanges::Merge(patch)) => changed.attributes = changed.attributes.merged(patch.clone())?,
            None => {}
        }
        if changed != *user {
            changed.version += 1;
            // Another instance's clock may be ahead.
            changed.updated_at = now.max(user.updated_at);
        }
        Ok(changed)
    }
}

impl From<&NewUser> for Changes {
    fn from(user: &NewUser) -> Self {
        Self {
            name: None,
            email: Some(user.email.clone()),
            status: user.status,
            tags: user.tags.clone(),
            added_tags: user.added_tags.clone(),
            removed_tags: Tags::default(),
            attributes: user.attributes.clone().map(AttributeChanges::Replace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::NewUser;

    #[test]
    fn the_same_again_is_no_change_and_the_clock_never_goes_back() {
        let new = NewUser::new("dong".parse().unwrap(), "d@example.com".parse().unwrap());
        let user = new.stored_as(1, UnixMillis(1000));
        assert_eq!(Changes::from(&new).applied_to(&user, UnixMillis(2000)).unwrap(), user);

        let bounced = Changes { status: Some(Status::Bounced), ..Changes::default() };
        let changed = bounced.applied_to(&user, UnixMillis(900)).unwrap();
        assert_eq!((changed.version, changed.updated_at, changed.created_at), (2, UnixMillis(1000), UnixMillis(1000)));
    }
}
