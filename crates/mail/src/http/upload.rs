//! A large body on its way from the network to a thread that reads it.
//!
//! Reading means decoding, hashing and writing to a disk, which would hold up everybody else on the runtime. The pieces go
//! through a short queue: when the disk is slower than the network, the sender is asked to wait.

use std::{
    io::{self, Read},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
};
use futures::StreamExt as _;
use service_kit::{Problem, json::BODY_DEADLINE};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

/// Pieces, of some 10 to 100 KiB each, that wait to be read.
const PIECES: usize = 4;
/// The slowest that a large body may come in on average, after the time that every body has: 16 KiB a second.
const BYTES_PER_S: u64 = 16 * 1024;

/// Lets `read` read the body of at most `max_bytes`. What is wrong with the body itself goes before what `read` makes of it.
///
/// # Errors
/// 413, 408, or 400 when the client broke off; or whatever `read` says.
pub(super) async fn receive<T: Send + 'static>(
    request: Request,
    max_bytes: usize,
    read: impl FnOnce(Pieces) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let reading = spawn_blocking(move || read(Pieces { receiver, piece: Bytes::new(), is_whole: false }));
    let sent = send(request.into_body(), max_bytes, sender).await;
    let result = reading.await;
    sent?;
    result.unwrap_or_else(|error| {
        tracing::error!(%error, "the body could not be read");
        Err(Problem::internal())
    })
}

async fn send(body: Body, max_bytes: usize, pieces: mpsc::Sender<Option<Bytes>>) -> Result<(), Problem> {
    let (mut body, mut received, started) = (body.into_data_stream(), 0_usize, Instant::now());
    loop {
        let rate = Duration::from_secs(u64::try_from(received).unwrap_or(u64::MAX) / BYTES_PER_S);
        let piece = tokio::select! {
            // Nobody reads on when something is wrong with what was read.
            () = pieces.closed() => return Ok(()),
            piece = timeout_at(started + BODY_DEADLINE + rate, body.next()) => piece,
        };
        let piece = match piece {
            Ok(None) => {
                let _reader_left = pieces.send(None).await;
                return Ok(());
            }
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(_))) => {
                let detail = "the body ended before it was complete";
                return Err(Problem::new(StatusCode::BAD_REQUEST, "body_cut_off", detail));
            }
            Err(_) => {
                let detail = format!("the body came in slower than {BYTES_PER_S} bytes a second");
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail));
            }
        };
        received = received.saturating_add(piece.len());
        if received > max_bytes {
            let detail = format!("the body is larger than {max_bytes} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail));
        }
        if pieces.send(Some(piece)).await.is_err() {
            return Ok(());
        }
    }
}

/// The body, for a thread that may wait.
#[derive(Debug)]
pub(super) struct Pieces {
    /// `None` is the end of a whole body.
    receiver: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    is_whole: bool,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.is_whole {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.is_whole = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = self.piece.len().min(out.len());
        out[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use tokio::time::sleep;

    use super::*;

    /// What becomes of a body with `count` pieces of `len` bytes, one after each `pause`.
    async fn sent(count: usize, len: usize, pause: Duration) -> Result<usize, String> {
        let piece = move |index| async move {
            sleep(pause).await;
            (index < count).then(|| (Ok::<_, Infallible>(Bytes::from(vec![b'x'; len])), index + 1))
        };
        let body = Body::from_stream(Box::pin(stream::unfold(0, piece)));
        let (sender, mut receiver) = mpsc::channel::<Option<Bytes>>(PIECES);
        let reading = tokio::spawn(async move {
            let mut read = 0;
            while let Some(Some(piece)) = receiver.recv().await {
                read += piece.len();
            }
            read
        });
        send(body, 10_000_000, sender).await.map_err(|problem| problem.code.into_owned())?;
        Ok(reading.await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_body_may_take_its_time_and_not_all_of_ours() {
        let second = Duration::from_secs(1);
        assert_eq!(sent(200, 20_000, second).await, Ok(4_000_000), "over three minutes");
        assert_eq!(sent(1, 1_000, 9 * second / 2).await, Ok(1_000));
        for (count, len, pause) in [(1, 1, 11 * second), (1000, 1_000, second), (0, 0, 60 * second)] {
            assert_eq!(sent(count, len, pause).await, Err("body_too_slow".to_owned()), "{count} of {len}");
        }
    }
}
