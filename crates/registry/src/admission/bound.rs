//! The bounds of what may be written, by name: what a refusal, a metric and an option mean.

use prometheus_client::encoding::EncodeLabelValue;

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Bound {
    /// Writes of one instance.
    Instance,
    /// Writes of registrations with one token.
    TokenInstances,
    /// Writes of registrations.
    AllInstances,
    /// Writes of one setting.
    Setting,
    /// Writes of settings with one token.
    TokenSettings,
    /// Writes of settings.
    AllSettings,
    /// What the registrations of one service take in etcd.
    ServiceBytes,
    /// What all registrations take in etcd.
    InstancesBytes,
    /// What the settings of one service take in etcd.
    ServiceSettingsBytes,
    /// What all settings take in etcd.
    SettingsBytes,
}

// === impl Bound ===

impl Bound {
    /// The option that sets it.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Instance => "--instance-writes",
            Self::TokenInstances => "--token-instance-writes",
            Self::AllInstances => "--all-instance-writes",
            Self::Setting => "--setting-writes",
            Self::TokenSettings => "--token-setting-writes",
            Self::AllSettings => "--all-setting-writes",
            Self::ServiceBytes => "--service-bytes-max",
            Self::InstancesBytes => "--instances-bytes-max",
            Self::ServiceSettingsBytes => "--service-settings-bytes-max",
            Self::SettingsBytes => "--settings-bytes-max",
        }
    }
}
