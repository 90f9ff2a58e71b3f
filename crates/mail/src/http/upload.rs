//! A large body on its way from the network to a thread that reads it.
//!
//! Reading means decoding, hashing and writing to a disk, which would block the runtime's other tasks. The pieces go
//! through a short queue: when the disk is slower than the network, the sender is asked to wait.

use std::{
    fmt,
    io::{self, Read},
    time::Duration,
};

use axum::{
    body::{BodyDataStream, Bytes},
    extract::Request,
};
use futures::StreamExt as _;
use service_kit::{
    Problem,
    json::{self, BODY_DEADLINE},
};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

/// Pieces, of some 10 to 100 KiB each, that wait to be read.
const PIECES: usize = 4;
/// The slowest that a body may come in on average, after the time that every body has: 16 KiB a second.
const BYTES_PER_S: u64 = 16 * 1024;

/// A body that is coming in.
pub(super) struct Upload {
    body: BodyDataStream,
    max_bytes: usize,
    received: usize,
    started: Instant,
    /// What has come in and was not read on.
    kept: Vec<Bytes>,
}

// === impl Upload ===

impl Upload {
    /// The body of `request`, which may have at most `max_bytes`.
    pub(super) fn new(request: Request, max_bytes: usize) -> Self {
        let body = request.into_body().into_data_stream();
        Self { body, max_bytes, received: 0, started: Instant::now(), kept: Vec::new() }
    }

    /// All of it, if it has no more than `max_bytes`. Otherwise nothing is lost: [`read`](Self::read) it.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub(super) async fn small(&mut self, max_bytes: usize) -> Result<Option<Bytes>, Problem> {
        while self.received <= max_bytes {
            match self.next().await? {
                Some(piece) => self.kept.push(piece),
                None => return Ok(Some(std::mem::take(&mut self.kept).concat().into())),
            }
        }
        Ok(None)
    }

    /// Lets `read` read it. What is wrong with the body itself goes before what `read` makes of it.
    ///
    /// # Errors
    /// 413, 408, or 400 when the client broke off; or whatever `read` says.
    pub(super) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(Pieces) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (sender, receiver) = mpsc::channel(PIECES);
        let reading = spawn_blocking(move || read(Pieces { receiver, piece: Bytes::new(), is_whole: false }));
        let sent = self.send(sender).await;
        let result = reading.await;
        sent?;
        result.unwrap_or_else(|error| {
            tracing::error!(%error, "the body could not be read");
            Err(Problem::internal())
        })
    }

    async fn send(mut self, pieces: mpsc::Sender<Option<Bytes>>) -> Result<(), Problem> {
        let mut kept = std::mem::take(&mut self.kept).into_iter();
        loop {
            let piece = match kept.next() {
                Some(piece) => Some(piece),
                None => tokio::select! {
                    // After an error the rest is not read.
                    () = pieces.closed() => return Ok(()),
                    piece = self.next() => piece?,
                },
            };
            let is_last = piece.is_none();
            let waiting = Instant::now();
            if pieces.send(piece).await.is_err() || is_last {
                return Ok(());
            }
            // Our disk's time is not the client's.
            self.started += waiting.elapsed();
        }
    }

    /// The next piece; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let by_rate = Duration::from_secs(u64::try_from(self.received).unwrap_or(u64::MAX) / BYTES_PER_S);
        let piece = match timeout_at(self.started + BODY_DEADLINE + by_rate, self.body.next()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(_))) => return Err(json::cut_off()),
            Err(_) => {
                let seconds = BODY_DEADLINE.as_secs();
                let detail = format!("after {seconds} s, the body came in slower than {BYTES_PER_S} bytes a second");
                return Err(json::too_slow(detail));
            }
        };
        self.received = self.received.saturating_add(piece.len());
        if self.received > self.max_bytes {
            return Err(json::too_large(self.max_bytes));
        }
        Ok(Some(piece))
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("received", &self.received).finish_non_exhaustive()
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

    use axum::body::Body;
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
        let upload = Upload::new(Request::new(body), 10_000_000);
        upload.send(sender).await.map_err(|problem| problem.code.into_owned())?;
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

    #[tokio::test]
    async fn a_small_body_of_unknown_length_is_read_at_once_and_a_large_one_is_not_lost() {
        for (count, is_small) in [(0, true), (10, true), (11, false), (100, false)] {
            let pieces = std::iter::repeat_n(Ok::<_, Infallible>(Bytes::from_static(b"0123456789")), count);
            let body = Body::from_stream(stream::iter(pieces.collect::<Vec<_>>()));
            let mut upload = Upload::new(Request::new(body), 10_000);
            let small = upload.small(100).await.unwrap();
            assert_eq!(small.as_ref().map(|body| body.len()), is_small.then_some(10 * count));
            if !is_small {
                let whole = |mut pieces: Pieces| Ok(io::copy(&mut pieces, &mut io::sink()).unwrap());
                assert_eq!(upload.read(whole).await.unwrap(), 10 * u64::try_from(count).unwrap());
            }
        }
    }
}
