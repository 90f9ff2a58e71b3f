//! How a service is doing, as far as people are told.

use serde::{Deserialize, Serialize};

/// The worse, the greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As many instances as it needs, and none is degraded.
    #[default]
    Enough,
    /// As many as it needs, but some say that something does not work.
    Degraded,
    /// Fewer than it needs.
    BelowMinimum,
    /// None, and it needs one.
    Down,
}

/// What is counted of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Instances that take requests.
    pub in_rotation: usize,
    /// Those among them that are degraded.
    pub degraded: usize,
}

// === impl Level ===

impl Level {
    /// All but the best, from the worst on.
    pub const TROUBLES: [Self; 3] = [Self::Down, Self::BelowMinimum, Self::Degraded];

    /// Of a service that needs `minimum` instances.
    #[must_use]
    pub fn of(reading: Reading, minimum: usize) -> Self {
        match reading {
            Reading { in_rotation: 0, .. } if minimum > 0 => Self::Down,
            Reading { in_rotation, .. } if in_rotation < minimum => Self::BelowMinimum,
            Reading { degraded: 1.., .. } => Self::Degraded,
            Reading { .. } => Self::Enough,
        }
    }

    /// The next better one.
    #[must_use]
    pub fn better(self) -> Self {
        match self {
            Self::Enough | Self::Degraded => Self::Enough,
            Self::BelowMinimum => Self::Degraded,
            Self::Down => Self::BelowMinimum,
        }
    }
}
