use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::FieldError;

/// How long an instance stays registered after its last heartbeat: 2 s to 1 h, by default 5 s.
///
/// Two heartbeats fit into one TTL, so that two lost ones are survived and a third is not. Less than 2 s is refused
/// because etcd itself rounds leases up to that (`ceil(3 × election ticks / 2 × heartbeat)`), and a promise of less
/// would be a lie. JSON has it in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Ttl(Duration);

// === impl Ttl ===

impl Ttl {
    /// The shortest TTL.
    pub const MIN: Self = Self(Duration::from_secs(2));
    /// The longest TTL.
    pub const MAX: Self = Self(Duration::from_secs(3600));

    /// A TTL from its wire form.
    ///
    /// # Errors
    ///
    /// It is outside [`Ttl::MIN`] to [`Ttl::MAX`]; the field is `ttl_ms`.
    pub fn from_millis(ttl_ms: u64) -> Result<Self, FieldError> {
        Self::try_from(Duration::from_millis(ttl_ms)).map_err(|_| {
            FieldError::new("ttl_ms", format!("{ttl_ms} is out of range; give 2000 (2 s) to 3600000 (1 h)"))
        })
    }

    /// The duration.
    pub fn get(self) -> Duration {
        self.0
    }

    /// Whole milliseconds, for the wire.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).expect("at most an hour")
    }

    /// Whole seconds for etcd, which knows no less. Rounded up: rounding down would expire instances early.
    pub fn as_secs_ceil(self) -> u32 {
        u32::try_from(self.as_millis().div_ceil(1000)).expect("at most an hour")
    }

    /// How often to send a heartbeat: two fifths of the TTL, that is every 2 s by default.
    pub fn heartbeat_interval(self) -> Duration {
        self.0 * 2 / 5
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self(Duration::from_secs(5))
    }
}

impl TryFrom<Duration> for Ttl {
    type Error = FieldError;

    fn try_from(ttl: Duration) -> Result<Self, FieldError> {
        if (Self::MIN.0..=Self::MAX.0).contains(&ttl) {
            return Ok(Self(ttl));
        }
        Err(FieldError::new("ttl", format!("{ttl:?} is out of range; give 2s to 1h")))
    }
}

impl TryFrom<u64> for Ttl {
    type Error = FieldError;

    fn try_from(ttl_ms: u64) -> Result<Self, FieldError> {
        Self::from_millis(ttl_ms)
    }
}

impl From<Ttl> for u64 {
    fn from(ttl: Ttl) -> Self {
        ttl.as_millis()
    }
}

impl From<Ttl> for Duration {
    fn from(ttl: Ttl) -> Self {
        ttl.0
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_heartbeats_fit_into_one_ttl() {
        let ttl = Ttl::default();
        assert_eq!(ttl.heartbeat_interval(), Duration::from_secs(2));
        assert!(ttl.heartbeat_interval() * 2 < ttl.get() && ttl.heartbeat_interval() * 3 > ttl.get());
    }

    #[test]
    fn etcd_seconds_are_rounded_up() {
        assert_eq!(Ttl::from_millis(2000).unwrap().as_secs_ceil(), 2);
        assert_eq!(Ttl::from_millis(2001).unwrap().as_secs_ceil(), 3);
        assert_eq!(Ttl::MAX.as_secs_ceil(), 3600);
    }

    #[test]
    fn a_ttl_out_of_range_is_refused() {
        for ttl_ms in [0, 1999, 3_600_001, u64::MAX] {
            assert_eq!(Ttl::from_millis(ttl_ms).unwrap_err().field, "ttl_ms", "{ttl_ms}");
        }
    }
}
