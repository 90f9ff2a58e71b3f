//! When etcd cannot be read, nothing is known of any service: that is worth telling, too.
//!
//! Who tells? The replica that was the leader last, by what it remembers: etcd, which decides that
//! otherwise, cannot be asked. Two may remember so for a moment (one that was frozen while another took over), and none does
//! if the sender died together with etcd, or if etcd has not been reached since the start. The replica that told of the
//! end tells of the return. Plain values; the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::message::Sight;

/// Whether this replica can read etcd, and what people believe of that.
#[derive(Debug)]
pub struct Blindness {
    after: Duration,
    is_blind: bool,
    /// Since when it is so.
    since: Instant,
    /// When it began to be blind, for what is told of the return.
    began: Instant,
    is_told: bool,
}

// === impl Blindness ===

impl Blindness {
    /// It must stay so for `after` before it is told.
    #[must_use]
    pub fn new(after: Duration, now: Instant) -> Self {
        Self { after, is_blind: false, since: now, began: now, is_told: false }
    }

    /// Takes note of whether etcd can be read.
    pub fn observe(&mut self, is_fresh: bool, now: Instant) {
        if self.is_blind == is_fresh {
            self.is_blind = !is_fresh;
            self.since = now;
            if self.is_blind && !self.is_told {
                self.began = now;
            }
        }
    }

    /// What to tell now; `was_sender`: this replica led last.
    #[must_use]
    pub fn due(&self, was_sender: bool, now: Instant) -> Option<Sight> {
        let is_settled = now - self.since >= self.after;
        let is_ours = self.is_told || was_sender;
        (is_settled && is_ours && self.is_blind != self.is_told)
            .then(|| Sight { is_lost: self.is_blind, lasted: self.since - self.began })
    }

    /// People know this now.
    pub fn told(&mut self, sight: Sight) {
        self.is_told = sight.is_lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_end_and_the_return_are_told_once_by_who_sent_last() {
        let start = Instant::now();
        let mut sender = Blindness::new(AFTER, start);
        let mut other = Blindness::new(AFTER, start);
        let mut told = Vec::new();
        for second in 0..100 {
            let now = start + second * SECOND;
            for (blindness, was_sender) in [(&mut sender, second < 60), (&mut other, false)] {
                blindness.observe(!(20..60).contains(&second), now);
                if let Some(sight) = blindness.due(was_sender, now) {
                    told.push((second, sight.is_lost, sight.lasted.as_secs()));
                    blindness.told(sight);
                }
            }
        }
        assert_eq!(told, [(30, true, 0), (70, false, 40)]);
    }

    #[test]
    fn a_short_silence_is_no_news() {
        let start = Instant::now();
        let mut blindness = Blindness::new(AFTER, start);
        for second in 0..100 {
            let now = start + second * SECOND;
            blindness.observe(second % 20 < 11, now);
            assert_eq!(blindness.due(true, now), None, "{second}");
        }
    }
}
