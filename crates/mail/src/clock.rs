//! Moments, as the outbox keeps them and as its users read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since 1970. Instances that share an outbox compare theirs, so their clocks should agree to a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// The system's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Reads a moment of RFC 3339: `2026-11-21T12:00:00Z`, or with an offset from UTC, `2026-11-21T13:00:00+01:00`.
    ///
    /// # Errors
    /// Says what to write.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| match is_without_offset(text) {
            true => "it has no offset from UTC; write for example 2026-11-21T12:00:00Z or 2026-11-21T13:00:00+01:00",
            false => "it is no moment of RFC 3339; write for example 2026-11-21T12:00:00Z or 2026-11-21T13:00:00+01:00",
        })?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(millis).map(Self).map_err(|_| "it is too far away; write for example 2026-11-21T12:00:00Z")
    }

    /// How long ago `earlier` was; nothing when it is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// For the `Date` header and the like.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

fn is_without_offset(text: &str) -> bool {
    OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339).is_ok()
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis());
        Self(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl std::ops::Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// RFC 3339 in UTC, with milliseconds.
impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_rfc3339_millis(self.system_time()).fmt(f)
    }
}

impl serde::Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written_in_utc() {
        let moment = Moment::parse("2026-11-21T12:00:00Z").unwrap();
        assert_eq!(moment.to_string(), "2026-11-21T12:00:00.000Z");
        assert_eq!((moment + Duration::from_secs(1)).since(moment), Duration::from_secs(1));
        assert_eq!(moment.since(moment + Duration::from_secs(1)), Duration::ZERO, "no time is negative");
        for same in ["2026-11-21T13:30:00+01:30", "2026-11-21T04:00:00-08:00", "2026-11-21t12:00:00.000z"] {
            assert_eq!(Moment::parse(same), Ok(moment), "{same}");
        }
        assert!(Moment::parse("2026-11-21T12:00:00").unwrap_err().contains("no offset"));
        for bad in ["", "tomorrow", "2026-11-21", "2026-11-21T12:00:00", "2026-13-21T12:00:00Z"] {
            assert!(Moment::parse(bad).unwrap_err().contains("write for example"), "{bad}");
        }
    }
}
