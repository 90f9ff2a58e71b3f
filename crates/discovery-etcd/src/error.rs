use discovery::{FieldError, InstanceKey, LeaseId, SettingKey};

use crate::failure::Failure;

/// What could not be done in etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// The lease is gone: expired, revoked, or lost with its cluster. Register afresh.
    #[error("lease {lease} is gone")]
    LeaseNotFound {
        /// Which lease.
        lease: LeaseId,
    },
    /// The instance is no longer registered under this lease: somebody deleted its key, or registered it anew. Register
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
    /// The operator's word may or may not be written. Repeat it.
    #[error("cannot change the override of {key}")]
    Override {
        /// Which instance.
        key: InstanceKey,
        /// Why.
        source: CallError,
    },
    /// The views of the instance may or may not be in step with it. Repeat it.
    #[error("cannot bring the views of {key} in step")]
    Align {
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
    Office {
        /// Which key.
        key: String,
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
    #[error("etcd at {endpoint} says no")]
    Refused {
        /// The member that answered.
        endpoint: String,
        /// Its answer.
        source: Failure,
    },
    /// The key kept changing under our hands until the deadline.
    #[error("somebody else writes the same key all the time")]
    Contended,
}

fn describe(failures: &[(String, Failure)]) -> String {
    let each: Vec<String> = failures.iter().map(|(endpoint, failure)| format!("{endpoint}: {failure}")).collect();
    if each.is_empty() { "none was asked in time".to_owned() } else { each.join("; ") }
}

// === impl EtcdError ===

impl EtcdError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::LeaseNotFound { .. } | Self::NotRegistered { .. } | Self::Invalid { .. } => false,
            Self::Register { source, .. }
            | Self::Find { source, .. }
            | Self::Update { source, .. }
            | Self::KeepAlive { source, .. }
            | Self::Deregister { source, .. }
            | Self::Override { source, .. }
            | Self::Align { source, .. }
            | Self::Setting { source, .. }
            | Self::Settings { source }
            | Self::List { source, .. }
            | Self::Office { source, .. }
            | Self::Snapshot { source } => source.is_transient(),
        }
    }
}

// === impl CallError ===

impl CallError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Contended => true,
            Self::Refused { source, .. } => source.is_transient(),
        }
    }

    /// What a member answered, when one did.
    pub(crate) fn refusal(&self) -> Option<&Failure> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::Unavailable { .. } | Self::Contended => None,
        }
    }
}
