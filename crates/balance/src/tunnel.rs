//! Bytes both ways, after the instance has agreed to change the protocol with 101: WebSocket and others.
//!
//! Nothing is understood any more and nothing is kept. Each direction ends by itself; the tunnel ends with both, or when
//! nothing has moved for too long.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    downstream::{Downstream, Waiting},
    wire::{Read, Stream, Wire},
};

/// Relays until both directions have ended, or nothing has moved for `idle_timeout`.
pub(crate) async fn run<A: Stream, B: Stream>(
    client: &mut Wire<A>,
    upstream: &mut Wire<B>,
    downstream: &Downstream,
    idle_timeout: Duration,
) {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    downstream.wait(Waiting::Tunnel, idle_timeout);
    poll_fn(|cx| {
        let (a, b) = (up.poll(client, upstream, cx), down.poll(upstream, client, cx));
        if std::mem::take(&mut up.has_moved) | std::mem::take(&mut down.has_moved) {
            downstream.wait(Waiting::Tunnel, idle_timeout);
        }
        match (a, b) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) | (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                Poll::Ready(())
            }
            _ if downstream.is_over(Waiting::Tunnel) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    downstream.stop(Waiting::Tunnel);
}

#[derive(Default)]
struct Direction {
    has_moved: bool,
    is_over: bool,
}

impl Direction {
    fn poll<A: Stream, B: Stream>(
        &mut self,
        from: &mut Wire<A>,
        to: &mut Wire<B>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_over {
            if !from.unread().is_empty() {
                let count = ready!(to.poll_write(cx, from.unread()))?;
                from.consume(count);
                self.has_moved = true;
            } else if ready!(from.poll_read_some(cx))? == Read::End {
                ready!(to.poll_shutdown(cx))?;
                self.is_over = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::{
        buffers::Buffers,
        clock::{Clock, Millis},
        headers::Client,
    };

    #[tokio::test]
    async fn each_direction_ends_by_itself_and_the_tunnel_with_both() {
        let ((client, mut user), (upstream, mut instance)) = (duplex(64), duplex(64));
        let downstream = Downstream::new(Client::new("10.0.0.9".parse().unwrap(), false), Rc::new(Clock::default()));
        let (mut client, mut upstream) =
            (Wire::new(client, Buffers::default()), Wire::new(upstream, Buffers::default()));
        let tunnel = run(&mut client, &mut upstream, &downstream, Duration::from_secs(60));
        let talk = async {
            let sent = vec![7; 1000];
            user.write_all(b"ping").await.unwrap();
            user.shutdown().await.unwrap();
            let mut heard = Vec::new();
            instance.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"ping");
            let answer = async {
                instance.write_all(&sent).await.unwrap();
                instance.shutdown().await.unwrap();
            };
            let mut answered = Vec::new();
            let (_, read) = tokio::join!(answer, user.read_to_end(&mut answered));
            assert!(read.unwrap() == 1000 && answered == sent);
        };
        tokio::join!(tunnel, talk);
    }

    #[tokio::test]
    async fn a_tunnel_in_which_nothing_moves_ends() {
        let ((client, _user), (upstream, _instance)) = (duplex(64), duplex(64));
        let clock = Rc::new(Clock::default());
        let downstream = Downstream::new(Client::new("10.0.0.9".parse().unwrap(), false), Rc::clone(&clock));
        let (mut client, mut upstream) =
            (Wire::new(client, Buffers::default()), Wire::new(upstream, Buffers::default()));
        let tunnel = run(&mut client, &mut upstream, &downstream, Duration::from_secs(60));
        let mut tunnel = std::pin::pin!(tunnel);
        poll_fn(|cx| {
            assert!(tunnel.as_mut().poll(cx).is_pending());
            clock.set_to(Millis(60_200));
            assert!(tunnel.as_mut().poll(cx).is_ready());
            Poll::Ready(())
        })
        .await;
    }
}
