//! From the one exchange to the other: what has come of a response's body, on its way to the client.

use std::{
    io,
    task::{Context, Poll, Waker},
};

use crate::{
    downstream::exchange::DownstreamExchange,
    io::buffered_stream::Read,
    message::request::UpstreamRequest,
    upstream::{breakage::Breakage, exchange::UpstreamExchange},
};

/// Moves what the client's framing takes of the runs that have come. What it does not take leaves as it is, from where
/// it is.
///
/// # Errors
///
/// The body is not framed as its head says.
pub(crate) fn take_in<D: DownstreamExchange>(client: &mut D, exchange: &mut UpstreamExchange) -> Result<(), Breakage> {
    loop {
        exchange.next_run().map_err(|_| Breakage::Malformed)?;
        let taken = client.take(exchange.run());
        if taken == 0 {
            break;
        }
        exchange.consume(taken);
    }
    if exchange.is_over() {
        client.end();
    }
    Ok(())
}

/// Reads on behind the head of a response, so that one which is known to be broken before anything has left is not
/// begun. Nothing is waited for.
///
/// # Errors
///
/// It is broken.
pub(crate) fn look_ahead<D: DownstreamExchange>(
    client: &mut D,
    exchange: &mut UpstreamExchange,
    request: &UpstreamRequest,
) -> Result<(), Breakage> {
    // The relay reads before it waits, and is woken then.
    match exchange.poll_read(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(Read::More)) => take_in(client, exchange)?,
        Poll::Ready(Ok(Read::End)) if exchange.has_decoded_all() => {
            exchange.close().map_err(|_| Breakage::Closed(io::ErrorKind::UnexpectedEof.into()))?;
            take_in(client, exchange)?;
        }
        Poll::Ready(Err(error)) if exchange.has_decoded_all() => {
            if !exchange.close_by_reset(request) {
                return Err(Breakage::Closed(error));
            }
            take_in(client, exchange)?;
        }
        Poll::Ready(_) | Poll::Pending => {}
    }
    Ok(())
}
