//! One client connection in HTTP/1.1, from its first byte to its last: one exchange after the other, and an end that
//! loses no answer.

use std::{future::poll_fn, rc::Rc, task::Poll};

use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    clock::Millis,
    downstream::{
        deadlines::{ConnectionTimers, Phase, Waiting},
        http1::{Http1Exchange, Next},
    },
    io::{
        buffered_stream::{BufferedStream, Read},
        linger::{IDLE_MAX, Lingering},
        stream::Stream,
    },
    message::{gateway_error::GatewayError, problem_response},
    proxy::context::Gateway,
};

/// Serves the requests of one connection, one after the other, until either side ends it.
pub(crate) async fn serve<S: Stream>(stream: S, gateway: Rc<Gateway>, timers: Rc<ConnectionTimers>) {
    let mut client = BufferedStream::new(stream, gateway.buffers.clone());
    loop {
        let next = match next_head(&mut client, &gateway, &timers).await {
            Head::Complete(length) => {
                let read_ahead_max_bytes = gateway.options.limits.header_max_bytes;
                let mut exchange = Http1Exchange::new(&mut client, &timers, length, read_ahead_max_bytes);
                // Boxed, as the ends are: a connection that waits for its next request needs nothing of it.
                let ended = Box::pin(gateway.handle(&mut exchange, &timers)).await;
                exchange.next(ended)
            }
            Head::Never => Next::Close,
            Head::Refused(refusal) => {
                gateway.refusals.count(&refusal);
                let bytes = gateway.clock.with_date(|date| problem_response::error_response(&refusal, date));
                timers.enter(Phase::Flushing);
                return Box::pin(reject_connection(client.into_stream(), &bytes, &gateway.lingering)).await;
            }
        };
        timers.stop_all();
        match next {
            Next::Keep => timers.enter(Phase::Idle),
            Next::Close => return,
            Next::Linger => {
                timers.enter(Phase::Flushing);
                return Box::pin(gateway.lingering.linger(client.into_stream())).await;
            }
        }
    }
}

/// What becomes of the wait for a request.
enum Head {
    /// Its head is unread, and has this length.
    Complete(usize),
    /// The client has left, or has sent nothing for too long.
    Never,
    /// It is too large or too late.
    Refused(GatewayError),
}

async fn next_head<S: Stream>(client: &mut BufferedStream<S>, gateway: &Gateway, timers: &ConnectionTimers) -> Head {
    let (limits, timeouts) = (&gateway.options.limits, &gateway.options.timeouts);
    let mut overdue = Overdue::default();
    timers.wait_for_request(timeouts.keep_alive);
    poll_fn(|cx| {
        timers.remember(cx.waker());
        loop {
            if !client.unread().is_empty() && timers.phase() == Phase::Idle {
                timers.enter(Phase::Head);
                timers.stop(Waiting::Request);
                timers.wait(Waiting::Head, timeouts.header_timeout);
            }
            if let Some(length) = client.find_head(&gateway.http) {
                return Poll::Ready(Head::Complete(length));
            }
            match client.poll_read(cx, limits.header_max_bytes) {
                Poll::Ready(Ok(Read::More)) => {}
                Poll::Ready(Ok(Read::End) | Err(_)) => return Poll::Ready(Head::Never),
                Poll::Ready(Ok(Read::Full)) => {
                    let (max_bytes, fields_max) = (limits.header_max_bytes, limits.header_fields_max);
                    return Poll::Ready(Head::Refused(GatewayError::HeaderTooLarge { max_bytes, fields_max }));
                }
                Poll::Pending if overdue.is_certain(timers, Waiting::Request) => return Poll::Ready(Head::Never),
                Poll::Pending if overdue.is_certain(timers, Waiting::Head) => {
                    return Poll::Ready(Head::Refused(GatewayError::HeaderTimeout(timeouts.header_timeout)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// A wait that was over when a tick came.
///
/// What arrives in the moments before a tick may not be known to the runtime when the tick is: on a busy core the request would
/// be in the socket, and the connection closed. So a wait is over at the second tick that finds it so.
#[derive(Debug, Default)]
struct Overdue(Option<Millis>);

impl Overdue {
    fn is_certain(&mut self, timers: &ConnectionTimers, waiting: Waiting) -> bool {
        if !timers.is_over(waiting) {
            return false;
        }
        let now = timers.now();
        *self.0.get_or_insert(now) < now
    }
}

/// Says `bytes` on a connection that HTTP is done with, and closes it.
pub(crate) async fn reject_connection<S: Stream>(mut stream: S, bytes: &[u8], lingering: &Lingering) {
    let _gone = timeout(IDLE_MAX, stream.write_all(bytes)).await;
    lingering.linger(stream).await;
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// What a connection costs while it waits, but for the socket and its registration with the runtime.
    fn future_bytes<F: Future>(_: impl FnOnce(TcpStream, Rc<Gateway>, Rc<ConnectionTimers>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_waiting_connection_is_small() {
        let bytes = future_bytes(serve::<TcpStream>);
        assert!(bytes <= 384, "{bytes} bytes");
    }
}
