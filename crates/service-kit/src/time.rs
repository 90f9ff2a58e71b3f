//! Moments of the wall clock: what services store, compare and write into JSON.
//!
//! One type for all of them, a number of milliseconds, because the types that databases have for times depend on the
//! time zone of the server (MySQL's `TIMESTAMP`) or do not exist (SQLite). For what is measured and not stored there is
//! [`Instant`](std::time::Instant), which no operator sets back.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};

/// A moment, in milliseconds since 1970-01-01T00:00:00Z by the clock of this host.
///
/// Written as RFC 3339 has it, in UTC and with milliseconds: `2026-11-21T12:00:00.000Z`. Services that share a database
/// compare theirs, so their clocks should agree to a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

/// Why a text is no moment, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// A local time, of which the zone is unknown.
    #[error("it has no offset from UTC; write for example 2026-11-21T12:00:00Z or 2026-11-21T13:00:00+01:00")]
    NoOffset,
    /// Anything else.
    #[error("it is no moment of RFC 3339; write for example 2026-11-21T12:00:00Z or 2026-11-21T13:00:00+01:00")]
    Malformed,
}

// === impl UnixMillis ===

impl UnixMillis {
    /// 9999-12-31T23:59:59.999Z, after which RFC 3339 has no years.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// The system's clock.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// How long ago `earlier` was; zero when it is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// For the `Date` header and the like; 1970 for what was before, [`UnixMillis::MAX`] for what is after.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        let millis = u64::try_from(self.0.clamp(0, Self::MAX.0)).unwrap_or_default();
        UNIX_EPOCH + Duration::from_millis(millis)
    }
}

/// Reads a moment of RFC 3339: `2026-11-21T12:00:00Z`, or with an offset from UTC, `2026-11-21T13:00:00+01:00`.
impl FromStr for UnixMillis {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| match is_without_offset(text) {
            true => TimeError::NoOffset,
            false => TimeError::Malformed,
        })?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(millis).map(Self).map_err(|_| TimeError::Malformed)
    }
}

fn is_without_offset(text: &str) -> bool {
    OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339).is_ok()
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for UnixMillis {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.system_time()).fmt(f)
    }
}

impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PartialSchema for UnixMillis {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for UnixMillis {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_any_zone_and_written_in_utc() {
        for (text, shown) in [
            ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.000Z"),
            ("2026-11-21t12:00:00.1239z", "2026-11-21T12:00:00.123Z"),
            ("2026-11-21T13:30:00+01:30", "2026-11-21T12:00:00.000Z"),
            ("2026-11-20T20:30:00.5-15:30", "2026-11-21T12:00:00.500Z"),
            ("1969-12-31T23:59:59Z", "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(text.parse::<UnixMillis>().map(|moment| moment.to_string()).as_deref(), Ok(shown), "{text}");
        }
        assert_eq!(serde_json::to_string(&UnixMillis(0)).unwrap(), "\"1970-01-01T00:00:00.000Z\"");
    }

    #[test]
    fn a_text_that_is_no_moment_says_what_to_write() {
        assert_eq!("2026-11-21T12:00:00".parse::<UnixMillis>(), Err(TimeError::NoOffset));
        for bad in ["", "tomorrow", "2026", "2026-11-21", "2026-13-21T12:00:00Z", "2026-11-21T12:00:00+24:00", "äöüäö"]
        {
            let error = bad.parse::<UnixMillis>().unwrap_err();
            assert_eq!(error, TimeError::Malformed, "{bad}");
            assert!(error.to_string().contains("write for example"), "{bad}");
        }
    }

    #[test]
    fn no_number_panics_and_no_time_is_negative() {
        assert_eq!(UnixMillis(1_795_262_400_123).to_string(), "2026-11-21T12:00:00.123Z");
        assert_eq!(UnixMillis(i64::MIN).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(UnixMillis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        let second = Duration::from_secs(1);
        let moment = UnixMillis(5000);
        assert_eq!((moment + second, moment - second), (UnixMillis(6000), UnixMillis(4000)));
        assert_eq!((moment + second).since(moment), second);
        assert_eq!(moment.since(moment + second), Duration::ZERO);
        assert_eq!(UnixMillis(i64::MAX) + Duration::MAX, UnixMillis(i64::MAX));
    }
}
