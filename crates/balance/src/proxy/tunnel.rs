//! Bytes both ways, after the instance has agreed to change the protocol with 101: WebSocket and others.
//!
//! Nothing is understood any more and nothing is kept. Each direction ends by itself, and what a side has sent before
//! it ended arrives: a write error ends the one direction only, because the other may still have its last words to be
//! read, as a WebSocket's close frame. The tunnel ends with both directions, when nothing has moved for
//! [`Limits::idle`], or, once one has ended, for [`Limits::half_closed`].

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    downstream::deadlines::{ConnectionTimers, Waiting},
    instance::vitals::Vitals,
    io::{
        buffered_stream::{BufferedStream, Read},
        stream::Stream,
    },
};

/// How long nothing may move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// In both directions.
    pub(crate) idle: Duration,
    /// In the one that is left.
    pub(crate) half_closed: Duration,
}

/// Relays until both directions have ended; false when nothing has moved for too long.
pub(crate) async fn run<A: Stream, B: Stream>(
    client: &mut BufferedStream<A>,
    upstream: &mut BufferedStream<B>,
    timers: &ConnectionTimers,
    limits: Limits,
    vitals: &Vitals,
) -> bool {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    timers.wait(Waiting::Tunnel, limits.idle);
    let has_ended = poll_fn(|cx| {
        let (moved_up, moved_down) = (up.poll(client, upstream, cx), down.poll(upstream, client, cx));
        if moved_down.has_read {
            vitals.hear(timers.now());
        }
        // A side that has broken the connection takes nothing either.
        match (up, down) {
            (Direction::Broken, _) | (_, Direction::Broken) | (Direction::Ended, Direction::Ended) => {
                return Poll::Ready(true);
            }
            (_, _) if !moved_up.has_moved && !moved_down.has_moved => {}
            (Direction::Open, Direction::Open) => timers.wait(Waiting::Tunnel, limits.idle),
            (_, _) => timers.wait(Waiting::Tunnel, limits.half_closed),
        }
        if timers.is_over(Waiting::Tunnel) { Poll::Ready(false) } else { Poll::Pending }
    })
    .await;
    timers.stop(Waiting::Tunnel);
    has_ended
}

/// How far one direction is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Direction {
    #[default]
    Open,
    /// The side that it comes from has ended it, or the other one takes nothing any more.
    Ended,
    /// The side that it comes from has broken the connection.
    Broken,
}

/// What happened at once.
#[derive(Debug, Default)]
struct Moved {
    /// Something was written, or the direction has ended.
    has_moved: bool,
    has_read: bool,
}

impl Direction {
    /// Moves what can be moved.
    fn poll<A: Stream, B: Stream>(
        &mut self,
        from: &mut BufferedStream<A>,
        to: &mut BufferedStream<B>,
        cx: &mut Context<'_>,
    ) -> Moved {
        let mut moved = Moved::default();
        while *self == Self::Open {
            if from.unread().is_empty() {
                match from.poll_read_some(cx) {
                    Poll::Ready(Ok(Read::More | Read::Full)) => moved.has_read = true,
                    Poll::Ready(Ok(Read::End)) => *self = Self::Ended,
                    Poll::Ready(Err(_)) => *self = Self::Broken,
                    Poll::Pending => return moved,
                }
                if *self != Self::Open {
                    // Ready at once on a socket; it fails when the other side is gone.
                    let _gone = to.poll_shutdown(cx);
                    moved.has_moved = true;
                }
            } else {
                match to.poll_write(cx, from.unread()) {
                    Poll::Ready(Ok(count)) => from.consume(count),
                    Poll::Ready(Err(_)) => *self = Self::Ended,
                    Poll::Pending => return moved,
                }
                moved.has_moved = true;
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::{
        clock::{Clock, Millis},
        io::buffers::Buffers,
        message::headers::Client,
    };

    const LIMITS: Limits = Limits { idle: Duration::from_secs(60), half_closed: Duration::from_secs(5) };

    #[tokio::test]
    async fn each_direction_ends_by_itself_and_the_tunnel_with_both() {
        let ((client, mut user), (upstream, mut instance)) = (duplex(64), duplex(64));
        let clock = Rc::new(Clock::default());
        clock.set_to(Millis(1000));
        let timers = ConnectionTimers::new(Client::new("10.0.0.9".parse().unwrap(), false), Rc::clone(&clock));
        let (mut client, mut upstream) =
            (BufferedStream::new(client, Buffers::default()), BufferedStream::new(upstream, Buffers::default()));
        let vitals = Vitals::default();
        let tunnel = run(&mut client, &mut upstream, &timers, LIMITS, &vitals);
        let talk = async {
            let sent = vec![7; 1000];
            user.write_all(b"ping").await.unwrap();
            user.shutdown().await.unwrap();
            let mut last_byte_at = Vec::new();
            instance.read_to_end(&mut last_byte_at).await.unwrap();
            assert_eq!(last_byte_at, b"ping");
            let answer = async {
                instance.write_all(&sent).await.unwrap();
                instance.shutdown().await.unwrap();
            };
            let mut answered = Vec::new();
            let (_, read) = tokio::join!(answer, user.read_to_end(&mut answered));
            assert!(read.unwrap() == 1000 && answered == sent);
        };
        tokio::join!(tunnel, talk);
        assert_eq!(vitals.last_byte_at(), clock.now(), "what the instance says is a sign of its life");
    }

    #[tokio::test]
    async fn a_tunnel_in_which_nothing_moves_ends() {
        let ((client, _user), (upstream, _instance)) = (duplex(64), duplex(64));
        let clock = Rc::new(Clock::default());
        let timers = ConnectionTimers::new(Client::new("10.0.0.9".parse().unwrap(), false), Rc::clone(&clock));
        let (mut client, mut upstream) =
            (BufferedStream::new(client, Buffers::default()), BufferedStream::new(upstream, Buffers::default()));
        let vitals = Vitals::default();
        let tunnel = run(&mut client, &mut upstream, &timers, LIMITS, &vitals);
        let mut tunnel = std::pin::pin!(tunnel);
        poll_fn(|cx| {
            assert!(tunnel.as_mut().poll(cx).is_pending());
            clock.set_to(Millis(60_200));
            assert!(tunnel.as_mut().poll(cx).is_ready());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_left_when_one_direction_has_ended_ends_soon() {
        let ((client, mut user), (upstream, mut instance)) = (duplex(64), duplex(64));
        let clock = Rc::new(Clock::default());
        let timers = ConnectionTimers::new(Client::new("10.0.0.9".parse().unwrap(), false), Rc::clone(&clock));
        let (mut client, mut upstream) =
            (BufferedStream::new(client, Buffers::default()), BufferedStream::new(upstream, Buffers::default()));
        let vitals = Vitals::default();
        let tunnel = run(&mut client, &mut upstream, &timers, LIMITS, &vitals);
        let mut tunnel = std::pin::pin!(tunnel);
        user.shutdown().await.unwrap();
        let mut poll_at = async |now| {
            clock.set_to(Millis(now));
            poll_fn(|cx| Poll::Ready(tunnel.as_mut().poll(cx))).await
        };
        assert!(poll_at(0).await.is_pending());
        assert!(poll_at(5_000).await.is_pending());
        instance.write_all(b"still here").await.unwrap();
        assert!(poll_at(5_050).await.is_pending(), "while something moves it lives");
        assert!(poll_at(10_000).await.is_pending());
        assert_eq!(poll_at(10_200).await, Poll::Ready(false));
    }
}
