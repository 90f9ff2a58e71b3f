//! Waiting for a condition: bounded, level-triggered, and saying what did not come true.
//!
//! A sleep is either too short on a busy machine or too long on every other. A condition that is asked again and again
//! ends as soon as it holds, and cannot miss an edge.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

/// How long a test waits for something that should happen soon. Generous: the machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(20);

/// Asks `condition` until it answers `Some`, and returns that.
///
/// # Panics
///
/// When it has not answered within `limit`: "`what` did not happen within 20s".
#[track_caller]
pub fn wait_for<T, F>(what: &str, limit: Duration, condition: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let result = poll(limit, condition).await;
        result.unwrap_or_else(|| panic!("{what} did not happen within {limit:?} (waited for at {caller})"))
    }
}

/// [`wait_for`] a condition that is true or false.
///
/// # Panics
///
/// When it has not become true within `limit`.
#[track_caller]
pub fn wait_until<F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> impl Future<Output = ()>
where
    F: Future<Output = bool>,
{
    wait_for(what, limit, move || {
        let answer = condition();
        async move { answer.await.then_some(()) }
    })
}

/// [`wait_for`] a value to become `expected`; the failure shows what it was last.
///
/// # Panics
///
/// When it has not become equal within `limit`.
#[track_caller]
pub fn wait_for_eq<T, F>(
    what: &str,
    limit: Duration,
    expected: T,
    mut value: impl FnMut() -> F,
) -> impl Future<Output = ()>
where
    T: PartialEq + Debug,
    F: Future<Output = T>,
{
    let caller = std::panic::Location::caller();
    async move {
        let mut last = None;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let Ok(now) = timeout_at(deadline, value()).await else { break };
            if now == expected {
                return;
            }
            last = Some(now);
            sleep(PAUSE).await;
        }
        panic!("{what}: {last:?} did not become {expected:?} within {limit:?} (waited for at {caller})");
    }
}

/// Asks `condition` until it answers `Some` or `limit` is over, whatever it is busy with then.
pub(crate) async fn poll<T, F>(limit: Duration, mut condition: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        match timeout_at(deadline, condition()).await {
            Ok(Some(value)) => return Some(value),
            Ok(None) if Instant::now() < deadline => sleep(PAUSE).await,
            Ok(None) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_condition_holds() {
        let mut asked = 0;
        let answer = wait_for("third time", SOON, || {
            asked += 1;
            let asked = asked;
            async move { (asked == 3).then_some(asked) }
        });
        assert_eq!(answer.await, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the moon did not happen within 1s")]
    async fn waiting_for_what_never_answers_is_bounded() {
        wait_for::<(), _>("the moon", Duration::from_secs(1), std::future::pending).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "count: Some(1) did not become 2")]
    async fn the_last_value_is_shown() {
        wait_for_eq("count", Duration::from_secs(1), 2, || async { 1 }).await;
    }
}
