//! What a share of all requests did not exceed.

use std::time::Duration;

/// The latency that `share` (0.0 to 1.0) of `latencies` did not exceed; zero when there is none.
#[must_use]
pub fn quantile(latencies: impl IntoIterator<Item = Duration>, share: f64) -> Duration {
    let mut sorted: Vec<Duration> = latencies.into_iter().collect();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (sorted.len().saturating_sub(1) as f64 * share.clamp(0.0, 1.0)) as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// As a row of a table shows it: `12.3 ms`.
#[must_use]
pub fn in_ms(latency: Duration) -> String {
    format!("{:.1} ms", latency.as_secs_f64() * 1000.0)
}

/// Two latencies beside each other: `before 10.0 ms, meanwhile 11.0 ms (+10 %)`.
#[must_use]
pub fn compared(before: (&str, Duration), after: (&str, Duration)) -> String {
    let ratio = after.1.as_secs_f64() / before.1.as_secs_f64().max(f64::EPSILON);
    let change = (ratio - 1.0) * 100.0;
    format!("{} {}, {} {} ({change:+.0} %)", before.0, in_ms(before.1), after.0, in_ms(after.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_latencies_is_below_the_quantile() {
        let all = || (1..=100).rev().map(Duration::from_millis);
        let at = |share| quantile(all(), share).as_millis();
        assert_eq!([at(0.0), at(0.5), at(0.99), at(1.0), at(7.0)], [1, 50, 99, 100, 100]);
        assert_eq!(quantile([], 0.99), Duration::ZERO);
        assert_eq!(in_ms(Duration::from_micros(12_340)), "12.3 ms");
        let ms = Duration::from_millis;
        assert_eq!(compared(("before", ms(10)), ("after", ms(11))), "before 10.0 ms, after 11.0 ms (+10 %)");
    }
}
