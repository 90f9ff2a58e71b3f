//! The part of a path behind `?`.
//!
//! Unknown parameters are refused: a mistyped `zon=a` would otherwise be a filter that silently filters nothing. Other
//! systems' paths are the exception, whose clients send what means nothing here.

use std::{convert::Infallible, time::Duration};

use axum::{extract::FromRequestParts, http::request::Parts};
use discovery::{Instance, Revision};
use service_kit::{
    Problem, duration,
    openapi::{one_of, parameter},
};
use url::form_urlencoded;
use utoipa::{
    IntoParams,
    openapi::{
        ArrayBuilder, ObjectBuilder, Type,
        path::{Parameter, ParameterIn},
    },
};

use crate::mirror::Entry;

/// All parameters, decoded, in their order.
#[derive(Debug)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

/// Which instances of a service are asked for; all that is given must hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Only those that want requests, the degraded among them.
    pub(crate) passing: bool,
    /// Only those in this zone.
    pub(crate) zone: Option<String>,
    /// Only those of this version.
    pub(crate) version: Option<String>,
    /// Only those with all of these tags.
    pub(crate) tags: Vec<String>,
}

/// `index=N&wait=30s`: answer when it is no longer as it was at `N`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Poll {
    /// What the client has seen; `None`: it wants to know now.
    pub(super) seen: Option<Revision>,
    /// For how long at most; `None`: the default of the path.
    pub(super) wait: Option<Duration>,
}

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        Ok(Self(form_urlencoded::parse(query).into_owned().collect()))
    }
}

// === impl Filter ===

impl Filter {
    /// Takes one parameter; false when it is none of a filter's.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "passing" => self.passing = flag("passing", value)?,
            "zone" => self.zone = Some(value.to_owned()),
            "version" => self.version = Some(value.to_owned()),
            "tag" => self.tags.push(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether the instance is asked for.
    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        let Instance { zone, version, tags, .. } = &entry.registered.instance;
        (!self.passing || entry.status().is_in_rotation())
            && self.zone.as_ref().is_none_or(|wanted| zone.as_ref() == Some(wanted))
            && self.version.as_ref().is_none_or(|wanted| version.as_ref() == Some(wanted))
            && self.tags.iter().all(|wanted| tags.contains(wanted))
    }
}

// === impl Poll ===

impl Poll {
    /// Takes one parameter; false when it is none of a poll's.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "index" => self.seen = Some(index(value)?),
            "wait" => self.wait = Some(duration::parse(value).map_err(|reason| Problem::field("wait", reason))?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl IntoParams for Filter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            passing_parameter(),
            parameter("zone", ParameterIn::Query, "Only those in this zone.", text()),
            parameter("version", ParameterIn::Query, "Only those of this version.", text()),
            tag_parameter("Only those with this tag; may be repeated."),
        ]
    }
}

impl IntoParams for Poll {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        const INDEX: &str = "The index of an earlier answer: answer when it is no longer as it was then. One that this registry \
                             cannot know is answered at once.";
        const WAIT: &str = "For how long at most, with a unit; default 30s (Consul's paths: 5m), at most 10m, and up to a sixteenth \
                            longer.";
        let index = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        vec![
            parameter("index", ParameterIn::Query, INDEX, index),
            parameter("wait", ParameterIn::Query, WAIT, text().examples(["30s"])),
        ]
    }
}

/// What [`flag`] takes, for `passing`.
pub(super) fn passing_parameter() -> Parameter {
    let values = one_of(&["", "1", "true", "0", "false"]);
    parameter("passing", ParameterIn::Query, "Only those that want requests.", values)
}

pub(super) fn tag_parameter(description: &str) -> Parameter {
    parameter("tag", ParameterIn::Query, description, ArrayBuilder::new().items(text()))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A parameter that is there or not: `passing`, `passing=`, `passing=1`, `passing=true`; `0` and `false` are its absence.
pub(super) fn flag(name: &'static str, value: &str) -> Result<bool, Problem> {
    match value {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Problem::field(name, "is there or not; write it without a value")),
    }
}

/// 422 for a parameter that means nothing here.
pub(super) fn unknown(name: &str, known: &'static str) -> Problem {
    // The name is the client's: not every byte of it belongs into an answer.
    let shown: String = name.chars().take(32).flat_map(char::escape_default).collect();
    Problem::field(shown, format!("is unknown here; there are {known}"))
}

fn index(value: &str) -> Result<Revision, Problem> {
    let index = value.parse().ok().filter(|index| *index >= 0).map(Revision);
    index.ok_or_else(|| Problem::field("index", "is not a number that an answer gave; send back its \"index\", or 0"))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use discovery::{Registered, Status};

    use super::*;
    use crate::mirror::Since;

    fn entry() -> Entry {
        let mut instance = Instance::at("10.0.0.5:7070".parse().unwrap());
        instance.zone = Some("a".to_owned());
        instance.tags = ["blue", "big"].map(str::to_owned).into();
        let key = "service/mail/a".parse().unwrap();
        let registered =
            Registered { key, instance, lease: None, created: Revision::default(), modified: Revision::default() };
        let json = crate::mirror::Rendered::default();
        let since = Since { at: UNIX_EPOCH, from_start: false };
        Entry { registered, overridden: None, other_holder: None, changed: Revision::default(), json, since }
    }

    fn filter(pairs: &[(&str, &str)]) -> Filter {
        let mut filter = Filter::default();
        assert!(pairs.iter().all(|(name, value)| filter.take(name, value).unwrap()));
        filter
    }

    #[test]
    fn an_instance_is_asked_for_when_all_that_is_given_holds() {
        let entry = entry();
        for asked in [&[][..], &[("zone", "a"), ("passing", "")], &[("tag", "blue"), ("tag", "big")]] {
            assert!(filter(asked).matches(&entry), "{asked:?}");
        }
        for not in [&[("zone", "b")][..], &[("tag", "blue"), ("tag", "red")], &[("version", "1")]] {
            assert!(!filter(not).matches(&entry), "{not:?}");
        }
        let drained = Entry { overridden: Some(Status::Draining.into()), ..entry };
        assert!(!filter(&[("passing", "1")]).matches(&drained));
    }

    #[test]
    fn what_is_no_index_no_duration_and_no_flag_is_refused_by_name() {
        let mut poll = Poll::default();
        for (name, value) in [("index", "x"), ("index", "-1"), ("index", "99999999999999999999"), ("wait", "5")] {
            assert_eq!(poll.take(name, value).unwrap_err().errors[0].field, name, "{value}");
        }
        assert!(Filter::default().take("passing", "maybe").is_err());
        assert!(poll.take("index", "7").unwrap() && poll.take("wait", "120000ms").unwrap());
        assert_eq!(poll, Poll { seen: Some(Revision(7)), wait: Some(Duration::from_secs(120)) });
    }
}
