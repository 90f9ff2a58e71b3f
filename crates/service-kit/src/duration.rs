//! Durations with a unit: `2s`, `500ms`, `1m 30s`. A bare number is a mistake, because its unit cannot be seen.

use std::time::Duration;

/// Parses a duration for clap: `#[arg(value_parser = duration::parse)]`.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|error| {
        if text.trim().parse::<f64>().is_ok() {
            format!("a unit is missing; write for example \"{0}s\" or \"{0}ms\"", text.trim())
        } else {
            format!("{error}; write for example \"2s\", \"500ms\" or \"1m 30s\"")
        }
    })
}

/// Like [`parse`], but zero is a mistake: for deadlines, intervals and everything else where zero would mean "never" or
/// "always".
///
/// # Errors
/// A sentence that says what to write instead.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// Writes a duration as this module reads it.
#[must_use]
pub fn format(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_unit_is_a_mistake_that_says_what_to_write() {
        assert_eq!(parse("2").unwrap_err(), "a unit is missing; write for example \"2s\" or \"2ms\"");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse(" 500ms "), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
    }

    #[test]
    fn zero_is_refused_where_it_would_mean_never() {
        assert!(parse("0s").is_ok());
        assert!(parse_positive("0s").is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [1, 500, 2000, 90_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
