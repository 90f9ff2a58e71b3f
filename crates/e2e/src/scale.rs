//! How much is tried: a little in `make test`, everything in `make faults`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::users::Users;

/// `FAULTS=full` asks for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// A modest rate and outages of seconds: the promises, on any machine, in minutes.
    Short,
    /// Half of what the gateway can do here, and outages of a minute.
    Full,
}

/// The rate of [`Scale::Short`].
const MODEST_PER_SECOND: f64 = 200.0;

// === impl Scale ===

impl Scale {
    /// What the environment asks for.
    #[must_use]
    pub fn chosen() -> Self {
        match std::env::var_os("FAULTS") {
            Some(value) if value == "full" => Self::Full,
            _ => Self::Short,
        }
    }

    /// `short` or `full`, whichever is asked for.
    #[must_use]
    pub fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }

    /// The rate of the load on the gateway at `target`; measured first when it is half of capacity.
    pub async fn per_second(self, target: SocketAddr) -> f64 {
        match self {
            Self::Short => MODEST_PER_SECOND,
            Self::Full => (capacity(target).await / 2.0).max(MODEST_PER_SECOND),
        }
    }
}

/// What is answered with 200 in a second with 32 requests under way, over two seconds.
pub async fn capacity(target: SocketAddr) -> f64 {
    const MEASURED: Duration = Duration::from_secs(2);
    let users = Users::under_way(target, 32);
    let until = Instant::now() + MEASURED;
    tokio::time::sleep(MEASURED).await;
    let answers = users.stop();
    let count = answers.iter().filter(|answer| answer.outcome.is_ok() && answer.at <= until).count();
    #[expect(clippy::cast_precision_loss, reason = "requests far below 2^52")]
    let capacity = count as f64 / MEASURED.as_secs_f64();
    capacity
}
