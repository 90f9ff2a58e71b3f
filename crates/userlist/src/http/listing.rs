//! Which users to list: the query of `GET /v1/users`, and its cursors.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use discovery::FieldError;
use serde::{Deserialize, Serialize};
use service_kit::Problem;
use service_kit::time::UnixMillis;

use super::{
    error::invalid,
    query::{cut, each_once},
};
use crate::{
    store::{AttributeFilter, Filter, Page, Position, PositionKey, SearchText, Sort, SortKey},
    user,
};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) filter: Filter,
    pub(super) sort: Sort,
    pub(super) limit: u32,
    pub(super) cursor: Option<Cursor>,
}

/// Where the next page begins, and what is known from the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) after: Position,
    pub(super) total: Option<i64>,
}

/// A cursor as it travels: base64url of this in JSON. Opaque to clients, and worth nothing to one who changes it: it
/// can only name another place in the same list.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    /// [`Filter::fingerprint`].
    of: u64,
    id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<i64>,
}

// === impl Listing ===

impl Listing {
    pub(super) const LIMIT_DEFAULT: u32 = 100;
    pub(super) const LIMIT_MAX: u32 = 1000;

    /// Reads a query string. Empty parameters count as absent; unknown and repeated ones are mistakes, because `limt=5`
    /// would list all users.
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let mut listing =
            Self { filter: Filter::default(), sort: Sort::default(), limit: Self::LIMIT_DEFAULT, cursor: None };
        let mut cursor = None;
        let mut errors = each_once(query, |key, value| match key {
            "cursor" => {
                cursor = Some(value.to_owned());
                Ok(())
            }
            _ => listing.set(key, value),
        });
        if let Some(cursor) = cursor.filter(|_| errors.is_empty()) {
            match Cursor::parse(&cursor, listing.fingerprint(), listing.sort.key) {
                Some(cursor) => listing.cursor = Some(cursor),
                None => errors.push(not_a_cursor()),
            }
        }
        if errors.is_empty() { Ok(listing) } else { Err(invalid(errors)) }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), FieldError> {
        match key {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=Self::LIMIT_MAX).contains(limit));
                self.limit = limit.ok_or_else(|| FieldError::new("limit", "it must be a number from 1 to 1000"))?;
                Ok(())
            }
            "sort" => {
                self.sort = sort(value)?;
                Ok(())
            }
            _ => filter(&mut self.filter, key, value, "limit, cursor and sort"),
        }
    }

    fn fingerprint(&self) -> u64 {
        self.filter.fingerprint(self.sort)
    }

    /// The part of the list that is wanted, and one user more to see whether there is another.
    pub(super) fn page(&self) -> Page {
        let after = self.cursor.as_ref().map(|cursor| cursor.after.clone());
        Page { filter: self.filter.clone(), sort: self.sort, after, rows: self.limit + 1 }
    }

    /// The cursor that goes on after `position`.
    pub(super) fn cursor_after(&self, position: Position, total: Option<i64>) -> String {
        Cursor { after: position, total }.to_text(self.fingerprint())
    }
}

/// The most attributes of one filter: databases have a bound for conditions, beyond which a query fails.
const ATTRIBUTES_MAX: usize = 16;

pub(super) fn not_a_cursor() -> FieldError {
    FieldError::new("cursor", "it must be the next_cursor of a page with the same filters and order; begin without one")
}

/// Sets what a parameter says about which users; shared with the export and with changes to many. `others` are the
/// parameters beside these.
pub(super) fn filter(filter: &mut Filter, key: &str, value: &str, others: &str) -> Result<(), FieldError> {
    match key {
        "status" => filter.status = Some(value.parse()?),
        "tag" => filter.tag = Some(value.parse().map_err(|error: FieldError| error.under("tag"))?),
        "email" => filter.email = Some(user::email(value)?),
        "created_since" => filter.created.since = Some(moment(key, value)?),
        "created_before" => filter.created.before = Some(moment(key, value)?),
        "updated_since" => filter.updated.since = Some(moment(key, value)?),
        "updated_before" => filter.updated.before = Some(moment(key, value)?),
        "name" => filter.name = Some(value.parse()?),
        "q" if value.chars().count() > SearchText::MAX_CHARS => {
            return Err(FieldError::new("q", "it has more than 128 characters"));
        }
        "q" if value.chars().any(char::is_control) => {
            return Err(FieldError::new(
                "q",
                "it has a line end or another control character, which no name or address has",
            ));
        }
        "q" => filter.text = SearchText::new(value),
        _ => match key.strip_prefix("attributes.") {
            Some(_) if filter.attributes.len() == ATTRIBUTES_MAX => {
                return Err(FieldError::new(cut(key), "there are more than 16 attributes to look for; leave some out"));
            }
            Some(attribute) => {
                let attribute = AttributeFilter::new(attribute, value).map_err(|error| error.under(cut(key)))?;
                filter.attributes.push(attribute);
            }
            None => {
                let reason = format!(
                    "it is unknown; there are status, tag, q, email, name, attributes.KEY, created_since, created_before, \
                     updated_since, updated_before, {others}"
                );
                return Err(FieldError::new(cut(key), reason));
            }
        },
    }
    Ok(())
}

/// A moment of RFC 3339, or a day, which begins at midnight in UTC. Not before 1970.
fn moment(key: &str, value: &str) -> Result<UnixMillis, FieldError> {
    const DAY: usize = "2026-11-21".len();
    // A `+` that was not percent-encoded has become a space when the form was decoded.
    let text = if value.len() == DAY { format!("{value}T00:00:00Z") } else { value.replace(' ', "+") };
    text.parse().ok().filter(|moment: &UnixMillis| moment.0 >= 0).ok_or_else(|| {
        let reason =
            "it must be a time as in RFC 3339, 2026-11-21T12:00:00Z or 2026-11-21T13:00:00+01:00, or a day in UTC";
        FieldError::new(key.to_owned(), reason)
    })
}

fn sort(text: &str) -> Result<Sort, FieldError> {
    let (is_descending, key) = text.strip_prefix('-').map_or((false, text), |key| (true, key));
    let key = match key {
        // Ids are given in the order of creation.
        "id" | "created_at" => SortKey::Id,
        "name" => SortKey::Name,
        "email" => SortKey::Email,
        "updated_at" => SortKey::UpdatedAt,
        _ => {
            let reason = "it must be id, name, email, created_at or updated_at, with - in front for the last first";
            return Err(FieldError::new("sort", reason));
        }
    };
    Ok(Sort { key, is_descending })
}

// === impl Cursor ===

impl Cursor {
    /// The cursor of a list with this fingerprint and order.
    pub(super) fn parse(text: &str, fingerprint: u64, key: SortKey) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let key = match (key, wire.text, wire.number) {
            (SortKey::Id, None, None) => PositionKey::Id,
            (SortKey::Name | SortKey::Email, Some(text), None) => PositionKey::Text(text),
            (SortKey::UpdatedAt, None, Some(number)) => PositionKey::Number(number),
            _ => return None,
        };
        (wire.of == fingerprint).then_some(Self { after: Position { key, id: wire.id }, total: wire.total })
    }

    /// As it travels.
    pub(super) fn to_text(&self, fingerprint: u64) -> String {
        let Position { key, id } = &self.after;
        let (text, number) = match key {
            PositionKey::Id => (None, None),
            PositionKey::Text(text) => (Some(text.clone()), None),
            PositionKey::Number(number) => (None, Some(*number)),
        };
        let wire = Wire { of: fingerprint, id: *id, text, number, total: self.total };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).expect("strings and numbers always become JSON"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_listing_has_defaults_and_bounds() {
        let all = Listing::parse("").unwrap();
        assert_eq!((all.limit, &all.filter, all.sort), (100, &Filter::default(), Sort::default()));
        assert_eq!(Listing::parse("status=&tag=&q=&sort=&limit=&cursor=").unwrap(), all, "empty is absent");
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=-1", "limit"),
            ("limit=99999999999", "limit"),
            ("limt=5", "limt"),
            ("limit=5&limit=6", "limit"),
            ("status=away", "status"),
            ("tag=a%20b", "tag"),
            ("email=dong", "email"),
            ("name=%20", "name"),
            ("sort=age", "sort"),
            ("sort=--id", "sort"),
            ("cursor=abc", "cursor"),
            ("after=5", "after"),
            ("q=a%0Ab", "q"),
            ("created_since=yesterday", "created_since"),
            ("updated_before=2026-13-01", "updated_before"),
            ("attributes.=5", "attributes."),
            ("attributes.a=5&attributes.a=6", "attributes.a"),
        ] {
            assert_eq!(Listing::parse(query).unwrap_err().errors[0].field, field, "{query}");
        }
        assert!(Listing::parse(&format!("q={}", "x".repeat(129))).is_err());
    }

    #[test]
    fn a_cursor_belongs_to_its_filters_and_order() {
        let listing = Listing::parse("sort=-name&tag=vip").unwrap();
        let position = Position { key: PositionKey::Text("dong".to_owned()), id: 17 };
        let cursor = listing.cursor_after(position.clone(), Some(5));
        let next = Listing::parse(&format!("sort=-name&tag=vip&limit=7&cursor={cursor}")).unwrap();
        assert_eq!(next.cursor, Some(Cursor { after: position, total: Some(5) }));
        for query in ["sort=name&tag=vip", "sort=-name", "sort=-email&tag=vip", "sort=-name&tag=vip&q=a"] {
            let problem = Listing::parse(&format!("{query}&cursor={cursor}")).unwrap_err();
            assert_eq!(problem.errors[0].field, "cursor", "{query}");
        }
    }

    #[test]
    fn a_cursor_of_the_release_before_goes_on() {
        for (query, of) in [
            ("", 6_190_838_682_848_274_118),
            ("status=active&tag=t", 15_020_485_865_422_962_765),
            ("status=active&q=B.C&sort=-name", 17_955_410_771_869_781_982),
        ] {
            assert_eq!(Listing::parse(query).unwrap().fingerprint(), of, "{query}");
        }
        let of = |query| Listing::parse(query).unwrap().fingerprint();
        assert_ne!(of("created_since=2026-01-01"), of("updated_since=2026-01-01"));
        assert_ne!(of("attributes.a=1"), of(""));
    }

    #[test]
    fn a_time_may_be_in_any_zone_or_a_day() {
        for (text, shown) in [
            ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.000Z"),
            ("2026-11-21T13:00:00%2B01:00", "2026-11-21T12:00:00.000Z"),
            ("2026-11-21T13:00:00+01:00", "2026-11-21T12:00:00.000Z"),
            ("2026-11-20t20:30:00.5-15:30", "2026-11-21T12:00:00.500Z"),
            ("2026-11-21", "2026-11-21T00:00:00.000Z"),
        ] {
            let listing = Listing::parse(&format!("created_since={text}")).unwrap();
            assert_eq!(listing.filter.created.since.unwrap().to_string(), shown, "{text}");
        }
        for text in ["2026", "2026-11-21T12:00:00", "2026-02-30", "2026-11-21T12:00:00-24:00", "äöüäö", "1969-12-31"]
        {
            assert_eq!(Listing::parse(&format!("created_since={text}")).unwrap_err().errors[0].field, "created_since");
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "\\PC{0,80}|((status|tag|q|sort|limit|cursor)=[a-zA-Z0-9%_-]{0,60}&?){0,4}") {
            let _ = Listing::parse(&query);
        }
    }
}
