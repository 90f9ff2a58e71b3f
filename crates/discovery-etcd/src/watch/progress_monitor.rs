//! Notices a watch that has gone silent.
//!
//! A watch on a frozen member stays open for ever and says nothing, which looks exactly like a quiet evening. So a
//! progress request goes out every second, and a member that does not answer is given up. etcd's
//! own progress notifications come every ten minutes only.

use std::time::Duration;

use tokio::time::Instant;

/// When to ask next, and since when an answer is owed. Pure: the time is given.
#[derive(Debug)]
pub(crate) struct ProgressMonitor {
    /// Ask this often. Also while events flow: only the answers tell up to where everything was told.
    interval: Duration,
    /// Give up this long after the first question that nothing came after.
    patience: Duration,
    next: Instant,
    owed: Option<Instant>,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Nothing until then.
    Wait(Instant),
    /// Send a progress request.
    Ask,
    /// Give the stream up.
    Silent,
}

// === impl ProgressMonitor ===

impl ProgressMonitor {
    /// A progress request goes out every `interval`, and silence is noticed at most `limit` after the last sign of
    /// life.
    pub(crate) fn new(now: Instant, interval: Duration, limit: Duration) -> Self {
        Self { interval, patience: limit.saturating_sub(interval), next: now + interval, owed: None }
    }

    /// Something was heard.
    pub(crate) fn response_received(&mut self) {
        self.owed = None;
    }

    /// A progress request was sent.
    pub(crate) fn request_sent(&mut self, now: Instant) {
        self.next = now + self.interval;
        self.owed.get_or_insert(now);
    }

    /// What to do at `now`.
    ///
    /// Silence counts from the question: a reader that was itself paused for a minute must ask before it judges.
    pub(crate) fn due(&self, now: Instant) -> NextStep {
        let silent = self.owed.map(|asked| asked + self.patience);
        match silent {
            Some(silent) if now >= silent => NextStep::Silent,
            _ if now >= self.next => NextStep::Ask,
            Some(silent) => NextStep::Wait(silent.min(self.next)),
            None => NextStep::Wait(self.next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_is_noticed_two_seconds_after_the_last_sign_of_life() {
        let start = Instant::now();
        let mut progress = ProgressMonitor::new(start, SECOND, 2 * SECOND);
        assert_eq!(progress.due(start), NextStep::Wait(start + SECOND));
        assert_eq!(progress.due(start + SECOND), NextStep::Ask);
        progress.request_sent(start + SECOND);
        assert_eq!(progress.due(start + SECOND), NextStep::Wait(start + 2 * SECOND));
        assert_eq!(progress.due(start + 2 * SECOND), NextStep::Silent);
    }

    #[test]
    fn any_response_is_a_sign_of_life() {
        let start = Instant::now();
        let mut progress = ProgressMonitor::new(start, SECOND, 2 * SECOND);
        progress.request_sent(start + SECOND);
        progress.response_received();
        assert_eq!(progress.due(start + SECOND * 3 / 2), NextStep::Wait(start + 2 * SECOND));
        assert_eq!(progress.due(start + 2 * SECOND), NextStep::Ask);
    }

    #[test]
    fn asking_again_does_not_prolong_the_patience() {
        let start = Instant::now();
        let mut progress = ProgressMonitor::new(start, SECOND, 4 * SECOND);
        for second in 1..4 {
            assert_eq!(progress.due(start + second * SECOND), NextStep::Ask);
            progress.request_sent(start + second * SECOND);
        }
        assert_eq!(progress.due(start + 4 * SECOND), NextStep::Silent);
    }

    #[test]
    fn a_reader_that_was_paused_asks_before_it_judges() {
        let start = Instant::now();
        let progress = ProgressMonitor::new(start, SECOND, 2 * SECOND);
        assert_eq!(progress.due(start + 60 * SECOND), NextStep::Ask);
    }
}
