use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
///
/// A number in the database and not one of its types for times: those depend on the time zone of the server (MySQL's
/// `TIMESTAMP`) or do not exist (SQLite). It is the clock of the instance that made the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

// === impl Timestamp ===

impl Timestamp {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// A moment as RFC 3339 writes it, `2026-11-21T12:00:00Z` or `2026-11-21T13:00:00+01:00`, or a day, which begins at
    /// midnight in UTC.
    ///
    /// None when it is neither, or before 1970. A space counts as `+`, which it was before a form's coding.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const DAY: usize = "2026-11-21".len();
        const SECONDS: usize = "2026-11-21T12:00:00".len();
        let whole = if text.len() == DAY { format!("{text}T00:00:00Z") } else { text.to_ascii_uppercase() };
        let zone = whole.get(SECONDS..)?.find(['Z', '+', '-', ' '])? + SECONDS;
        let offset_ms = offset_ms(&whole[zone..])?;
        let time = humantime::parse_rfc3339(&format!("{}Z", &whole[..zone])).ok()?;
        let since = i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
        Some(Self(since.checked_sub(offset_ms)?))
    }
}

/// `Z` or `+01:00`.
fn offset_ms(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, end: i64| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|number| is_plain && *number < end)
    };
    let offset_ms = (number(hours, 24)? * 60 + number(minutes, 60)?) * 60_000;
    Some(if sign == "-" { -offset_ms } else { offset_ms })
}

impl fmt::Display for Timestamp {
    /// As RFC 3339 has it, in UTC: `2026-11-21T12:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// 9999-12-31T23:59:59.999Z, after which RFC 3339 has no years.
        const LAST: i64 = 253_402_300_799_999;
        let millis = u64::try_from(self.0.clamp(0, LAST)).unwrap_or_default();
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_any_zone() {
        for (text, shown) in [
            ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.000Z"),
            ("2026-11-21t12:00:00.1234z", "2026-11-21T12:00:00.123Z"),
            ("2026-11-21T13:00:00+01:00", "2026-11-21T12:00:00.000Z"),
            ("2026-11-21T13:00:00 01:00", "2026-11-21T12:00:00.000Z"),
            ("2026-11-20T20:30:00.5-15:30", "2026-11-21T12:00:00.500Z"),
            ("2026-11-21", "2026-11-21T00:00:00.000Z"),
            ("2026-11-21T12:00:00.123Z", "2026-11-21T12:00:00.123Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|time| time.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-11-21T12:00:00",
            "2026-02-30",
            "2026-11-21T12:00:00+1:00",
            "2026-11-21T12:00:00+24:00",
            "äöüäö",
            "1969-12-31",
            "2026-11-21T12:00:00Zx",
            "2026-11-21T12:00:0é+01:00",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_is_written_in_utc_and_no_number_panics() {
        assert_eq!(Timestamp(1_795_262_400_123).to_string(), "2026-11-21T12:00:00.123Z");
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(i64::MIN).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }
}
