//! What a registry lists: services, instances, and who is gone, in a person's words.
//!
//! Fields that this program does not know are left alone, and fields that an older registry does not have are absent.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use discovery::Origin;
use serde::Deserialize;
use serde_json::Value;

use crate::terminal::{printable::printable, screen::Look};

/// A registry that has not heard of etcd for longer than this shows what was, not what is.
pub(crate) const OLD: Duration = Duration::from_secs(3);

/// `GET /v1/services`, of which only the names matter here.
#[derive(Debug, Deserialize)]
pub(crate) struct Services {
    pub(crate) services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Service {
    pub(crate) name: String,
}

/// `GET /v1/services/{service}/instances`
#[derive(Debug, Deserialize)]
pub(crate) struct Instances {
    #[serde(default)]
    pub(crate) age_ms: u64,
    pub(crate) instances: Vec<Instance>,
    /// With `include=tombstones`.
    #[serde(default)]
    pub(crate) tombstones: Vec<Gone>,
}

/// One instance.
#[derive(Debug, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: Option<String>,
    pub(crate) address: String,
    scheme: Option<String>,
    status: Option<String>,
    /// Why the status is what it is, in the instance's words.
    reason: Option<String>,
    /// What an operator says.
    #[serde(rename = "override")]
    overridden: Option<String>,
    /// Who that is, and why.
    override_details: Option<OperatorsWord>,
    /// What it says itself while an operator's word counts more.
    reported_reason: Option<String>,
    /// What keeps it registered. An older registry does not say.
    origin: Option<String>,
    /// Who else claims its id.
    other_holder: Option<OtherHolder>,
    weight: Option<u32>,
    zone: Option<String>,
    version: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    /// Since when the registry has known this registration, in milliseconds since 1970.
    seen_since_ms: Option<u64>,
    /// Whether it was there already when the registry began to look.
    #[serde(default)]
    seen_from_start: bool,
}

#[derive(Debug, Deserialize)]
struct OperatorsWord {
    author: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OtherHolder {
    address: Option<String>,
}

/// `GET /v1/table`, of which only the instances matter here, each a [`Checked`].
#[derive(Debug, Deserialize)]
pub(crate) struct Table {
    pub(crate) instances: Vec<Value>,
}

/// An instance of the table of services.
#[derive(Debug, Deserialize)]
pub(crate) struct Checked {
    pub(crate) service: String,
    pub(crate) id: Option<String>,
    pub(crate) address: String,
    pub(crate) state: String,
    reason: Option<String>,
    since_ms: Option<u64>,
    checked_by: Option<String>,
}

/// One that is gone.
#[derive(Debug, Deserialize)]
pub(crate) struct Gone {
    pub(crate) id: Option<String>,
    pub(crate) address: String,
    pub(crate) cause: String,
    /// In milliseconds since 1970.
    at_ms: u64,
}

// === impl Instance ===

impl Instance {
    /// Its id.
    pub(crate) fn name(&self) -> String {
        name(self.id.as_deref())
    }

    /// Where it is, with the scheme if that is not plain http.
    pub(crate) fn place(&self) -> String {
        match self.scheme.as_deref() {
            None | Some("http") => self.address.clone(),
            Some(scheme) => format!("{scheme}://{}", self.address),
        }
    }

    /// `passing`, `degraded`, `draining` or `critical`.
    pub(crate) fn state(&self) -> &str {
        self.status.as_deref().unwrap_or("passing")
    }

    /// How its state looks.
    pub(crate) fn look(&self) -> Look {
        match self.state() {
            "passing" if self.other_holder.is_none() => Look::Good,
            "critical" => Look::Bad,
            _ => Look::Doubtful,
        }
    }

    /// For how long it has been registered; `>` in front: at least so long, because the registry itself has not looked
    /// for longer. Empty: the registry does not say.
    pub(crate) fn age(&self, now: SystemTime) -> String {
        let Some(since) = self.seen_since_ms else { return String::new() };
        let at_least = if self.seen_from_start { ">" } else { "" };
        format!("{at_least}{}", spoken(ago(since, now)))
    }

    /// Why it is as it is: what an operator says, what it says itself, what is wrong with its registration.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let reasons = match &self.overridden {
            Some(_) => vec![Some(self.operators_word()), self.reported_reason.clone()],
            None => vec![self.reason.clone()],
        };
        let also = self.other_holder.as_ref().map(|other| match &other.address {
            Some(address) => format!("{address} claims this id, too"),
            None => "another process claims this id, too".to_owned(),
        });
        reasons.into_iter().flatten().chain(also).map(|reason| printable(&reason)).collect()
    }

    /// `by an operator`, or who and why where the registry says so. An older registry tells neither.
    fn operators_word(&self) -> String {
        let details = self.override_details.as_ref();
        let author = details.and_then(|details| details.author.as_deref()).unwrap_or("an operator");
        let reason = details.and_then(|details| details.reason.as_ref());
        format!("by {author}{}", reason.map_or_else(String::new, |reason| format!(": {reason}")))
    }

    /// What keeps it registered, where that is no heartbeat; an imported one says from where in its own words.
    fn source(&self) -> Option<&'static str> {
        match self.origin.as_deref() {
            Some("table") => Some("from the table"),
            Some("hand") => Some("written by hand, without a lease"),
            _ => None,
        }
    }

    /// Whence it comes, and what else it says of itself and is not the default.
    pub(crate) fn details(&self) -> Vec<String> {
        let is_told = |key: &str| key == Origin::REGISTERED_BY && self.source().is_some();
        let weight = self.weight.filter(|weight| *weight != 1).map(|weight| format!("weight={weight}"));
        let details = self
            .source()
            .map(str::to_owned)
            .into_iter()
            .chain(weight)
            .chain(self.zone.iter().map(|zone| format!("zone={zone}")))
            .chain(self.version.iter().map(|version| format!("version={version}")))
            .chain(self.tags.iter().map(|tag| format!("tag={tag}")))
            .chain(self.meta.iter().filter(|(key, _)| !is_told(key)).map(|(key, value)| format!("{key}={value}")));
        details.map(|detail| printable(&detail)).collect()
    }
}

// === impl Checked ===

impl Checked {
    /// Its id.
    pub(crate) fn name(&self) -> String {
        name(self.id.as_deref())
    }

    /// Whether it is registered as the table wants it, so that the list of instances has it.
    pub(crate) fn is_registered(&self) -> bool {
        self.state == "passing"
    }

    /// For how long it has been so.
    pub(crate) fn age(&self, now: SystemTime) -> String {
        self.since_ms.map(|since| spoken(ago(since, now))).unwrap_or_default()
    }

    /// How that looks.
    pub(crate) fn look(&self) -> Look {
        match self.state.as_str() {
            "failing" | "refused" => Look::Bad,
            _ => Look::Doubtful,
        }
    }

    /// Why it is not registered, and who says so.
    pub(crate) fn why(&self) -> String {
        let checked_by = self.checked_by.as_ref().map(|by| format!("in the table, checked by {by}"));
        let parts = self.reason.clone().into_iter().chain(checked_by);
        parts.map(|part| printable(&part)).collect::<Vec<_>>().join("; ")
    }
}

// === impl Gone ===

impl Gone {
    /// Its id.
    pub(crate) fn name(&self) -> String {
        name(self.id.as_deref())
    }

    /// Why it is gone.
    pub(crate) fn cause(&self) -> &str {
        match self.cause.as_str() {
            "expired" => "its heartbeats stopped",
            "deregistered" => "it left",
            "drained" => "an operator had drained it",
            other => other,
        }
    }

    /// How long ago that was.
    pub(crate) fn ago(&self, now: SystemTime) -> String {
        format!("{} ago", spoken(ago(self.at_ms, now)))
    }
}

/// `12 s`, `3 min`, `2 h`, `5 d`: the largest unit of which there are two, so that it is never wrong by more than a
/// half.
pub(crate) fn spoken(time: Duration) -> String {
    match time.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs / 60),
        secs @ 7200..172_800 => format!("{} h", secs / 3600),
        secs => format!("{} d", secs / 86_400),
    }
}

fn ago(at_ms: u64, now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH + Duration::from_millis(at_ms)).unwrap_or_default()
}

fn name(id: Option<&str>) -> String {
    id.unwrap_or("(nameless)").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instance(json: Value) -> Instance {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn whence_an_instance_comes_is_told_where_no_heartbeat_keeps_it() {
        let details = |json: Value| instance(json).details().join(", ");
        let meta = json!({ "registered-by": "table", "owner": "ops" });
        let of_table = json!({ "id": "a", "address": "a:1", "origin": "table", "meta": meta });
        assert_eq!(details(of_table), "from the table, owner=ops");
        let by_hand = json!({ "id": "a", "address": "a:1", "origin": "hand", "weight": 2 });
        assert_eq!(details(by_hand), "written by hand, without a lease, weight=2");
        let imported = json!({ "id": "a", "address": "a:1", "origin": "import", "meta": { "imported": "/m" } });
        assert_eq!(details(imported), "imported=/m");
        assert_eq!(details(json!({ "id": "a", "address": "a:1", "origin": "heartbeat" })), "");
    }

    #[test]
    fn an_age_is_at_least_what_the_registry_has_seen() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let age = |more: Value| {
            let mut json = json!({ "id": "a", "address": "10.0.0.5:7070" });
            json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            instance(json).age(now)
        };
        assert_eq!(age(json!({ "seen_since_ms": 910_000 })), "90 s");
        assert_eq!(age(json!({ "seen_since_ms": 0, "seen_from_start": true })), ">16 min");
        assert_eq!(age(json!({ "seen_since_ms": 1_000_500 })), "0 s", "clocks differ a little");
        assert_eq!(age(json!({})), "", "an older registry");
        assert_eq!(
            (spoken(Duration::from_secs(7200)), spoken(Duration::from_secs(172_800))),
            ("2 h".into(), "2 d".into())
        );
    }

    #[test]
    fn reasons_are_shown_and_never_reach_the_terminal_as_commands() {
        let one = instance(json!({ "id": "a", "address": "b:1", "status": "draining", "reason": "new kernel",
            "override": "draining", "override_details": { "author": "kim", "reason": "new kernel", "outlives": true },
            "reported_reason": "no \u{1b}[2Jdisk", "other_holder": { "address": "10.0.0.6:7070" } }));
        let expected = ["by kim: new kernel", "no \\u{1b}[2Jdisk", "10.0.0.6:7070 claims this id, too"];
        assert_eq!(one.reasons(), expected);
        let old = instance(json!({ "id": "a", "address": "b:1", "status": "draining", "override": "draining" }));
        assert_eq!(old.reasons(), ["by an operator"]);
    }
}
