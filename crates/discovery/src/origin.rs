//! Whence an instance comes: what keeps it registered.
//!
//! etcd holds nothing but a value and a lease, so these two decide. Whatever is kept alive by a lease and does not say
//! otherwise counts as heard by heartbeats; a registry of another make that writes the same keys looks alike.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Instance, LeaseId, import::IMPORTED};

/// What keeps an instance registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Its heartbeats.
    Heartbeat,
    /// A registry that has it in its table, and checks it.
    Table,
    /// The lease of a registration that another framework wrote.
    Import,
    /// Nothing: its key has no lease, so it stays until it is deleted. It was written by hand.
    Hand,
}

// === impl Origin ===

impl Origin {
    /// The entry of [`Instance::meta`] that says what registered an instance, if not its own heartbeats.
    pub const REGISTERED_BY: &str = "registered-by";
    /// What that entry says of an instance of a table.
    pub const BY_TABLE: &str = "table";

    /// Of an instance that lives by `lease`.
    pub fn of(instance: &Instance, lease: Option<LeaseId>) -> Self {
        if instance.meta.contains_key(IMPORTED) {
            return Self::Import;
        }
        match lease {
            None => Self::Hand,
            Some(_) if Self::is_of_table(instance) => Self::Table,
            Some(_) => Self::Heartbeat,
        }
    }

    /// As it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Table => "table",
            Self::Import => "import",
            Self::Hand => "hand",
        }
    }

    /// Whether it says that it stands in a table.
    pub(crate) fn is_of_table(instance: &Instance) -> bool {
        instance.meta.get(Self::REGISTERED_BY).is_some_and(|by| by == Self::BY_TABLE)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_and_lease_tell_whence_an_instance_comes() {
        for (value, lease, origin) in [
            ("10.0.0.5:7070", Some(LeaseId(1)), Origin::Heartbeat),
            ("http://10.0.0.5:7070?meta.registered-by=ops", Some(LeaseId(1)), Origin::Heartbeat),
            ("http://10.0.0.5:3306?meta.registered-by=table", Some(LeaseId(1)), Origin::Table),
            ("http://10.0.0.5:3306?meta.registered-by=table", None, Origin::Hand),
            ("http://10.0.0.5:7070?meta.imported=/m", Some(LeaseId(1)), Origin::Import),
            ("http://10.0.0.5:7070?meta.imported=/m", None, Origin::Import),
            ("10.0.0.5:7070", None, Origin::Hand),
        ] {
            assert_eq!(Origin::of(&value.parse().unwrap(), lease), origin, "{value} {lease:?}");
        }
    }

    #[test]
    fn json_has_the_word_that_is_printed() {
        for origin in [Origin::Heartbeat, Origin::Table, Origin::Import, Origin::Hand] {
            assert_eq!(serde_json::to_string(&origin).unwrap(), format!("\"{origin}\""));
        }
    }
}
