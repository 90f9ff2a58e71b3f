//! Which values make sense. Every bound is in the documentation of its field.

use std::time::Duration;

use super::{Cors, HashOn, Policy, Strategy};
use crate::FieldError;

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

// === impl Policy ===

impl Policy {
    /// Whether every value is one that makes sense.
    ///
    /// # Errors
    ///
    /// The first that does not, by its path in the document.
    pub fn check(&self) -> Result<(), FieldError> {
        self.check_durations()?;
        self.check_numbers()?;
        self.check_load_balancing()?;
        self.check_access()?;
        self.check_origins()
    }

    fn check_durations(&self) -> Result<(), FieldError> {
        let Self { load_balancing, timeouts, health, breaker, .. } = self;
        let given = [
            ("load_balancing.slow_start", Some(load_balancing.slow_start), Duration::ZERO, HOUR),
            (
                "load_balancing.sticky.max_age",
                load_balancing.sticky.as_ref().and_then(|sticky| sticky.max_age),
                1000 * MS,
                400 * DAY,
            ),
            ("timeouts.connect", Some(timeouts.connect), MS, MINUTE),
            ("timeouts.per_try", timeouts.per_try, MS, HOUR),
            ("timeouts.response", Some(timeouts.response), MS, HOUR),
            ("timeouts.stream_idle", Some(timeouts.stream_idle), MS, DAY),
            ("hedge.after", self.hedge.map(|hedge| hedge.after), MS, MINUTE),
            ("health.active.interval", Some(health.active.interval), 100 * MS, HOUR),
            ("health.active.timeout", Some(health.active.timeout), 10 * MS, MINUTE),
            ("health.passive.base_ejection", Some(health.passive.base_ejection), 10 * MS, HOUR),
            ("health.passive.max_ejection", Some(health.passive.max_ejection), health.passive.base_ejection, DAY),
            ("breaker.queue_timeout", Some(breaker.queue_timeout), Duration::ZERO, MINUTE),
        ];
        let spoken = humantime::format_duration;
        match given.into_iter().find(|(_, given, min, max)| given.is_some_and(|given| given < *min || given > *max)) {
            Some((path, Some(given), min, max)) => Err(FieldError::new(
                path,
                format!("{} is out of range; give {} to {}", spoken(given), spoken(min), spoken(max)),
            )),
            _ => Ok(()),
        }
    }

    fn check_numbers(&self) -> Result<(), FieldError> {
        let Self { retries, health, breaker, .. } = self;
        let given = [
            ("retries.attempts_max", retries.attempts_max, 1, 10),
            ("retries.budget_percent", retries.budget_percent, 0, 100),
            ("health.active.rise", health.active.rise, 1, 100),
            ("health.active.fall", health.active.fall, 1, 100),
            ("health.passive.consecutive_5xx", health.passive.consecutive_5xx, 0, 255),
            ("health.passive.consecutive_failures", health.passive.consecutive_failures, 0, 255),
            ("health.panic_threshold_percent", health.panic_threshold_percent, 0, 100),
            ("breaker.in_flight_max", breaker.in_flight_max, 1, 1_000_000),
            ("breaker.streams_max", breaker.streams_max, 0, 1_000_000),
            ("breaker.queue_max", breaker.queue_max, 0, 1_000_000),
        ];
        match given.into_iter().find(|(_, given, min, max)| !(min..=max).contains(&given)) {
            Some((path, given, min, max)) => {
                Err(FieldError::new(path, format!("{given} is out of range; give {min} to {max}")))
            }
            None => Ok(()),
        }
    }

    fn check_load_balancing(&self) -> Result<(), FieldError> {
        let load_balancing = &self.load_balancing;
        match &load_balancing.hash_on {
            None if load_balancing.policy == Strategy::Hash => {
                let reason = "is missing; \"hash\" needs {\"header\": NAME}, {\"cookie\": NAME} or \"client_address\"";
                return Err(FieldError::new("load_balancing.hash_on", reason));
            }
            Some(HashOn::Header(name)) => check_token("load_balancing.hash_on.header", name)?,
            Some(HashOn::Cookie(name)) => check_token("load_balancing.hash_on.cookie", name)?,
            Some(HashOn::ClientAddress) | None => {}
        }
        match &load_balancing.sticky {
            Some(sticky) => check_token("load_balancing.sticky.cookie", &sticky.cookie),
            None => Ok(()),
        }
    }
}

impl Policy {
    fn check_origins(&self) -> Result<(), FieldError> {
        let refused = |reason: String| Err(FieldError::new("cors.origins", reason));
        if self.cors.origins.len() > Cors::ORIGINS_MAX {
            return refused(format!("are {}; {} are allowed", self.cors.origins.len(), Cors::ORIGINS_MAX));
        }
        match self.cors.origins.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
            Some(origin) => {
                let quoted = crate::field_error::quoted(origin);
                refused(format!(
                    "{quoted} is no origin; give \"*\", or scheme, host and maybe port, as https://app.example"
                ))
            }
            None => Ok(()),
        }
    }
}

/// The form in which browsers send one (RFC 6454, section 6.2): in small letters, without a path.
fn is_origin(origin: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.:[]_".contains(&b);
    let parts = origin.split_once("://").filter(|(scheme, host)| !scheme.is_empty() && !host.is_empty());
    origin.len() <= Cors::ORIGIN_MAX_BYTES
        && parts.is_some_and(|(scheme, host)| scheme.bytes().chain(host.bytes()).all(is_part))
}

/// RFC 9110, section 5.6.2: what a field's or a cookie's name is made of.
pub(super) fn check_token(path: &'static str, name: &str) -> Result<(), FieldError> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(is_token) {
        return Ok(());
    }
    let quoted = crate::field_error::quoted(name);
    Err(FieldError::new(path, format!("{quoted} is no name; give 1 to 64 letters, digits, '-', '_' or '.'")))
}
