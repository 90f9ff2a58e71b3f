//! The same request again and again, and how long each took.

use anyhow::ensure;
use hdrhistogram::Histogram;

use crate::{
    engine::{Done, Outcome, Traffic},
    gateway::Gateway,
};

/// The same request again and again.
#[derive(Debug)]
pub(crate) struct Uniform {
    request: Vec<u8>,
    /// Requests answered with 200 since the last [`Uniform::forget`].
    pub(crate) completed: u64,
    failed: Vec<String>,
    /// From when each was due to its end, in microseconds.
    pub(crate) latencies_us: Histogram<u64>,
}

// === impl Uniform ===

impl Uniform {
    pub(crate) fn new(request: Vec<u8>) -> Self {
        // 1 µs to 60 s with three digits.
        let latencies_us =
            Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that the crate's documentation allows");
        Self { request, completed: 0, failed: Vec::new(), latencies_us }
    }

    pub(crate) fn forget(&mut self) {
        self.completed = 0;
        self.latencies_us.reset();
    }

    pub(crate) fn all_succeeded(&self, gateway: &Gateway) -> anyhow::Result<()> {
        let first = self.failed.first().map_or("", String::as_str);
        ensure!(self.failed.is_empty(), "{}: {} requests failed: {first}", gateway.kind.name(), self.failed.len());
        Ok(())
    }
}

impl Traffic for Uniform {
    fn write(&mut self, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn done(&mut self, done: Done<'_>) {
        match done.outcome {
            Outcome::Answered(200, _) => {
                self.completed += 1;
                self.latencies_us.saturating_record(u64::try_from(done.latency().as_micros()).unwrap_or(u64::MAX));
            }
            Outcome::Answered(status, _) => self.failed.push(format!("status {status}")),
            Outcome::Broken(broken) => self.failed.push(broken.to_string()),
        }
    }
}
