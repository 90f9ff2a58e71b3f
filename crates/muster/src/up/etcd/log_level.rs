//! How much of etcd's log is shown.

use clap::ValueEnum;

/// How much of etcd's log is shown. `info` is a page for every start, so the default is `warn`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EtcdLogLevel {
    /// Everything.
    Debug,
    /// What etcd does.
    Info,
    /// What etcd worries about.
    #[default]
    Warn,
    /// What fails.
    Error,
}

// === impl EtcdLogLevel ===

impl EtcdLogLevel {
    /// As etcd's `--log-level` wants it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}
