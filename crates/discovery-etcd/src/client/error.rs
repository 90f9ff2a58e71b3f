use discovery::{FieldError, InstanceKey, LeaseId, SettingKey};

use crate::client::failure::{Failure, FailureClass};

/// What could not be done in etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// The lease is gone: expired, revoked, or lost with its cluster. Register afresh.
    #[error("lease {lease} is gone")]
    LeaseNotFound {
        /// Which lease.
        lease: LeaseId,
    },
    /// Another instance lives by the lease that was chosen for this one. Nothing was written; choose another.
    #[error("another instance lives by lease {lease}")]
    LeaseInUse {
        /// Which lease.
        lease: LeaseId,
    },
    /// The instance is no longer registered under this lease: its key was deleted, or registered anew. Register
    /// afresh.
    #[error("{key} does not live by lease {lease}")]
    NotRegistered {
        /// Which instance.
        key: InstanceKey,
        /// The lease by which it should live.
        lease: LeaseId,
    },
    /// The instance is outside the bounds of [`Instance::check`](discovery::Instance::check). Nothing was written.
    #[error("{key} cannot be written")]
    Invalid {
        /// Which instance.
        key: InstanceKey,
        /// Which of its fields.
        source: FieldError,
    },
    /// The instance is not registered, and no lease of this attempt is left behind for longer than its TTL.
    #[error("cannot register {key}")]
    Register {
        /// Which instance.
        key: InstanceKey,
        /// Why.
        source: CallError,
    },
    /// It is not known whether the instance is registered.
    #[error("cannot look {key} up")]
    Find {
        /// Which instance.
        key: InstanceKey,
        /// Why.
        source: CallError,
    },
    /// The instance may or may not have the new value. Repeat it, or let it expire.
    #[error("cannot update {key}")]
    Update {
        /// Which instance.
        key: InstanceKey,
        /// Why.
        source: CallError,
    },
    /// It is unknown whether the lease lives on. Repeat it well within the TTL.
    #[error("cannot keep lease {lease} alive")]
    KeepAlive {
        /// Which lease.
        lease: LeaseId,
        /// Why.
        source: CallError,
    },
    /// The instance may still be registered. Repeat it; at the latest it ends with its TTL.
    #[error("cannot deregister {key}")]
    Deregister {
        /// Which instance.
        key: InstanceKey,
        /// Why.
        source: CallError,
    },
    /// The override may or may not be written. Repeat it.
    #[error("cannot change the override of {key}")]
    Override {
        /// Which instance.
        key: InstanceKey,
        /// Why.
        source: CallError,
    },
    /// The dialect keys of the instance may or may not be consistent with it. Repeat it.
    #[error("cannot repair the dialect keys of {key}")]
    RepairDialectKeys {
        /// Which instance.
        key: InstanceKey,
        /// Why.
        source: CallError,
    },
    /// Nothing is known about what stands there now.
    #[error("cannot list what is below {prefix}")]
    List {
        /// Below which prefix.
        prefix: String,
        /// Why.
        source: CallError,
    },
    /// The setting was not read; or it is unknown whether it was written.
    #[error("cannot read or write the setting {key}")]
    Setting {
        /// Which setting.
        key: SettingKey,
        /// Why.
        source: CallError,
    },
    /// Nothing is known about the settings now.
    #[error("cannot list the settings")]
    Settings {
        /// Why.
        source: CallError,
    },
    /// It is not known whether the key is held, or what is written there.
    #[error("cannot take, read or write {key}")]
    Election {
        /// Which key.
        key: String,
        /// Why.
        source: CallError,
    },
    /// etcd writes nothing now.
    #[error("etcd does not write")]
    Probe {
        /// Why.
        source: CallError,
    },
    /// Nothing is known about what is registered now.
    #[error("cannot list what is registered")]
    Snapshot {
        /// Why.
        source: CallError,
    },
}

/// Why a call failed on every member that was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No member could serve the call before its deadline. Each member with its last failure.
    #[error("no etcd member could serve it ({})", describe(.failures))]
    Unavailable {
        /// Endpoint and failure of every member that was asked.
        failures: Vec<(String, Failure)>,
    },
    /// A member answered with a refusal that every other would repeat.
    #[error("etcd at {endpoint} refused")]
    Refused {
        /// The member that answered.
        endpoint: String,
        /// Its answer.
        source: Failure,
    },
    /// The etcd user may not do that.
    #[error("etcd at {endpoint} does not let this user read or write {keys}")]
    Denied {
        /// The member that answered.
        endpoint: String,
        /// Where: prefixes of keys.
        keys: String,
        /// Its answer.
        source: Box<Failure>,
    },
    /// The key kept changing under our hands until the deadline.
    #[error("another client keeps writing the same key")]
    Contended,
}

fn describe(failures: &[(String, Failure)]) -> String {
    let each: Vec<String> = failures.iter().map(|(endpoint, failure)| format!("{endpoint}: {failure}")).collect();
    if each.is_empty() { "none was asked in time".to_owned() } else { each.join("; ") }
}

// === impl EtcdError ===

impl EtcdError {
    /// Whether a retry may succeed without a change of configuration.
    pub fn is_transient(&self) -> bool {
        self.cause().is_some_and(CallError::is_transient)
    }

    /// What the call to etcd came to; `None` when there was none, or etcd's answer says it all.
    pub fn cause(&self) -> Option<&CallError> {
        match self {
            Self::LeaseNotFound { .. }
            | Self::LeaseInUse { .. }
            | Self::NotRegistered { .. }
            | Self::Invalid { .. } => None,
            Self::Register { source, .. }
            | Self::Find { source, .. }
            | Self::Update { source, .. }
            | Self::KeepAlive { source, .. }
            | Self::Deregister { source, .. }
            | Self::Override { source, .. }
            | Self::RepairDialectKeys { source, .. }
            | Self::Setting { source, .. }
            | Self::Settings { source }
            | Self::List { source, .. }
            | Self::Election { source, .. }
            | Self::Probe { source }
            | Self::Snapshot { source } => Some(source),
        }
    }
}

// === impl CallError ===

impl CallError {
    /// Whether a retry may succeed without a change of configuration.
    pub fn is_transient(&self) -> bool {
        matches!(self.class(), FailureClass::Passes | FailureClass::NoQuorum)
    }

    /// How long it lasts.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Refused { source, .. } => source.class(),
            Self::Denied { source, .. } => source.class(),
            Self::Unavailable { failures } => match failures.iter().any(|(_, one)| matches!(one, Failure::NoQuorum(_)))
            {
                true => FailureClass::NoQuorum,
                false => FailureClass::Passes,
            },
            Self::Contended => FailureClass::Passes,
        }
    }

    /// What an operator does about it, where that is known.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Refused { source, .. } => source.advice().map(str::to_owned),
            Self::Denied { keys, source, .. } => source.advice().map(|advice| advice.replace("PREFIX", keys)),
            Self::Unavailable { failures } => {
                failures.iter().find_map(|(_, failure)| failure.advice()).map(str::to_owned)
            }
            Self::Contended => None,
        }
    }

    /// The answer in etcd's words, without the way to it: `full: mvcc: database space exceeded`.
    pub fn answer(&self) -> String {
        match self {
            Self::Refused { source, .. } => source.to_string(),
            Self::Denied { keys, source, .. } => format!("{source} ({keys})"),
            Self::Unavailable { .. } | Self::Contended => self.to_string(),
        }
    }

    /// Whether a member answered that the lease to write under is gone.
    pub fn is_lease_gone(&self) -> bool {
        self.refusal() == Some(&Failure::LeaseNotFound)
    }

    /// What a member answered, when one did.
    pub(crate) fn refusal(&self) -> Option<&Failure> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::Denied { source, .. } => Some(source),
            Self::Unavailable { .. } | Self::Contended => None,
        }
    }

    /// Says where the user has no rights, if that is what failed.
    pub(crate) fn about(self, keys: impl Into<String>) -> Self {
        match self {
            Self::Refused { endpoint, source: source @ Failure::Denied(_) } => {
                Self::Denied { endpoint, keys: keys.into(), source: Box::new(source) }
            }
            other => other,
        }
    }
}

/// The part of a key for which rights are given: `service/` of `service/mail/a`, `/skydns/` of `/skydns/muster`.
pub(crate) fn prefix(key: &str) -> &str {
    let slash = key.char_indices().skip(1).find(|(_, one)| *one == '/');
    slash.map_or(key, |(at, _)| &key[..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_names_the_prefix_and_what_to_grant() {
        let refused = CallError::Refused {
            endpoint: "http://a:2379".into(),
            source: Failure::Denied("permission denied".into()),
        };
        let denied = refused.about(prefix("service/mail/a"));
        assert_eq!(denied.class(), FailureClass::Lasts);
        let text = service_kit::chain(&denied).to_string();
        assert!(text.contains("service/:") && text.contains("permission denied"), "{text}");
        assert_eq!(prefix("/skydns/muster/mail"), "/skydns/");
        assert!(denied.advice().is_some_and(|advice| advice.ends_with("readwrite service/")), "{denied:?}");
    }
}
