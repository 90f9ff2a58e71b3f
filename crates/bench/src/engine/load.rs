//! How many requests, at what pace, on how many connections; and what became of each.

use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// A load on one address.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Where requests go.
    pub target: SocketAddr,
    /// When the next request is due.
    pub pace: Pace,
    /// What it is sent on.
    pub connections: Connections,
    /// Most connections at the same time. Requests that are due beyond that wait.
    pub connections_max: usize,
    /// How long one request may take, from its first byte, before its connection is given up.
    pub patience: Duration,
    /// Whether to ask for events without ever sleeping. The kernel's sleep is a millisecond coarse; a core of one's own
    /// that never sleeps measures latencies exactly. Leave it off where others need the core.
    pub spin: bool,
}

/// When requests are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many are always under way; the next is due when one is done (a closed loop).
    UnderWay(usize),
    /// So many a second, whatever becomes of them (an open loop).
    PerSecond(f64),
    /// So many in all, and at most so many of them under way at the same time.
    InAll(u64, u64),
}

/// What a request is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// A free connection, the one that was used last; a new one where none is free.
    Kept,
    /// A new one, which ends with the response. The request should say `Connection: close`.
    Fresh,
    /// A new one, which stays open and is never used again.
    Hoarded,
}

/// What the requests are, and who learns what became of them.
pub trait Traffic {
    /// Appends the bytes of request `number`. Numbers start at 0.
    fn write(&mut self, number: u64, out: &mut Vec<u8>);

    /// Request `done.number` is over.
    fn done(&mut self, done: Done<'_>);
}

/// The end of a request.
#[derive(Debug, Clone, Copy)]
pub struct Done<'a> {
    /// Which one.
    pub number: u64,
    /// When it should have been sent.
    pub due: Instant,
    /// When its first byte was sent; `None` when none ever was.
    pub sent: Option<Instant>,
    /// When it was over.
    pub at: Instant,
    /// How it ended.
    pub outcome: Outcome<'a>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// With a complete response: its status and its head.
    Answered(u16, &'a [u8]),
    /// Without one.
    Broken(Broken),
}

/// Why there is no complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// No server accepted the connection.
    Refused,
    /// The connection ended before the first byte of a response, on a connection that had served before.
    ClosedWhenReused,
    /// The same on a new connection.
    ClosedWhenNew,
    /// The connection ended inside the response.
    Cut,
    /// It took longer than [`Load::patience`].
    TimedOut,
    /// The response was not one, or had a framing that [`super::wire`] does not know.
    Malformed,
}

// === impl Done ===

impl Done<'_> {
    /// From when it was due to its end.
    #[must_use]
    pub fn latency(&self) -> Duration {
        self.at.saturating_duration_since(self.due)
    }
}

// === impl Broken ===

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "the connection was refused",
            Self::ClosedWhenReused => "the kept connection was closed without an answer",
            Self::ClosedWhenNew => "the new connection was closed without an answer",
            Self::Cut => "the answer was cut short",
            Self::TimedOut => "no answer in time",
            Self::Malformed => "the answer made no sense",
        })
    }
}

// === impl Pace ===

impl Pace {
    /// When request `number` of an open loop is due after the start; `None` for the other paces.
    #[must_use]
    pub fn due(self, number: u64) -> Option<Duration> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "numbers stay far below 2^52")]
            Self::PerSecond(rate) => Some(Duration::from_secs_f64(number as f64 / rate)),
            Self::UnderWay(_) | Self::InAll(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_is_due_by_the_clock_alone() {
        let pace = Pace::PerSecond(200.0);
        assert_eq!(pace.due(0), Some(Duration::ZERO));
        assert_eq!(pace.due(300), Some(Duration::from_millis(1500)));
        assert_eq!(Pace::UnderWay(32).due(1), None);
    }
}
