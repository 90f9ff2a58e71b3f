//! What a registry with a table says of itself in etcd, below `lock/table/`, for the others.
//!
//! ```json
//! {"listen":"10.0.0.2:8500","instances":{"mysql/db-1":"5b1f0c8e7d2a4f36"},
//!  "states":{"mysql/db-1":{"state":"failing","reason":"10.0.0.5:3306 cannot be connected to","since_ms":1795267482201}}}
//! ```
//!
//! `instances` is all that its table has, each with a digest of what it says there; `states` those that it checks and
//! that are not registered as they should be, so that every registry can say why.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use discovery::Reason;
use ring::digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Below this, each registry has a key, which lives by its lease.
pub(super) const PREFIX: &str = "lock/table/";

/// How old an announcement may grow in which only reasons are old. Others decide nothing by them, and what fails in
/// another way each time would have every registry write twice a second.
pub(super) const REASONS_INTERVAL: Duration = Duration::from_secs(10);

/// One registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announcement {
    /// Where it listens, for people.
    pub(super) listen: String,
    /// Digests by `<service>/<instance>`.
    #[serde(default)]
    pub(super) instances: BTreeMap<String, String>,
    /// What is not as it should be, likewise.
    #[serde(default)]
    pub(super) states: BTreeMap<String, Trouble>,
}

/// Why an instance is not registered by the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    pub(super) state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Reason>,
    /// Milliseconds since 1970.
    pub(super) since_ms: u64,
}

/// How an instance of the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TableState)]
pub enum State {
    /// It passes and is registered.
    Passing,
    /// It has not passed or failed often enough since its checks began.
    Pending,
    /// A check fails, and it is not registered.
    Failing,
    /// Its id is held by an instance that does not come from the table.
    Contested,
    /// It passes, and could not be registered.
    Refused,
}

// === impl Announcement ===

impl Announcement {
    /// Whether it is time to write this where `written` has been for `age`.
    pub(super) fn replaces(&self, written: &Self, age: Duration) -> bool {
        self != written && (age >= REASONS_INTERVAL || !self.decides_as(written))
    }

    /// Whether the two differ in reasons alone.
    fn decides_as(&self, other: &Self) -> bool {
        let state = |(name, trouble): (&String, &Trouble)| (name.clone(), trouble.state);
        (&self.listen, &self.instances) == (&other.listen, &other.instances)
            && self.states.iter().map(state).eq(other.states.iter().map(state))
    }
}

// === impl State ===

impl State {
    /// As JSON and metrics have it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Pending => "pending",
            Self::Failing => "failing",
            Self::Contested => "contested",
            Self::Refused => "refused",
        }
    }
}

/// Which of `members` checks the instance `key`: the one with the highest digest of both names (rendezvous hashing,
/// Thaler and Ravishankar 1998). All that know the same members agree; when one goes, only what it had is shared out.
pub(super) fn checker_of<'a>(members: impl Iterator<Item = &'a str>, key: &str) -> Option<&'a str> {
    let score = |member: &str| {
        let digest = digest::digest(&digest::SHA256, format!("{member}\0{key}").as_bytes());
        digest.as_ref().to_vec()
    };
    members.max_by_key(|member| score(member))
}

/// Milliseconds since 1970.
pub(super) fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [&str; 3] = ["a", "b", "c"];

    fn checkers(members: &[&'static str]) -> Vec<&'static str> {
        (0..300).map(|n| checker_of(members.iter().copied(), &format!("db/{n}")).unwrap()).collect()
    }

    #[test]
    fn all_share_the_work_and_only_what_a_dead_one_had_moves() {
        let all = checkers(&MEMBERS);
        for member in MEMBERS {
            let share = all.iter().filter(|checker| **checker == member).count();
            assert!((60..=140).contains(&share), "{member}: {share}");
        }
        let without_b = checkers(&["c", "a"]);
        for (before, after) in all.iter().zip(&without_b) {
            assert!(before == after || *before == "b", "{before} {after}");
        }
        assert_eq!(checker_of([].into_iter(), "db/1"), None);
    }

    #[test]
    fn a_state_is_announced_at_once_and_a_reason_seldom() {
        let said = |state, reason: &str| {
            let trouble = Trouble { state, reason: reason.parse().ok(), since_ms: 7 };
            Announcement { states: [("db/a".to_owned(), trouble)].into(), ..Announcement::default() }
        };
        let written = said(State::Failing, "refused");
        let soon = Duration::from_millis(500);
        assert!(said(State::Pending, "refused").replaces(&written, soon));
        assert!(Announcement::default().replaces(&written, soon), "it passes");
        assert!(!said(State::Failing, "timed out").replaces(&written, soon));
        assert!(said(State::Failing, "timed out").replaces(&written, REASONS_INTERVAL));
        assert!(!written.clone().replaces(&written, REASONS_INTERVAL * 9), "what is the same is not written again");
    }

    #[test]
    fn the_choice_is_the_same_in_every_release() {
        assert_eq!(checkers(&MEMBERS)[..8], checkers(&["b", "c", "a"])[..8]);
        let chosen: String = checkers(&MEMBERS)[..12].concat();
        assert_eq!(chosen, "acccbaaabbaa");
    }

    #[test]
    fn what_a_later_release_says_beside_is_left_alone() {
        let read: Announcement = serde_json::from_str(r#"{"listen":"a:1","instances":{"db/a":"x"},"more":1}"#).unwrap();
        assert_eq!(read.instances["db/a"], "x");
    }
}
