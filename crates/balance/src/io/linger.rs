//! The end of a connection whose last answer has been written, while its client may still be sending.
//!
//! To close at once would reset the connection under what the client sends, and take the answer away from it. So this side
//! ends its direction, and reads and forgets until the client has noticed (RFC 9112, section 9.6). A client that takes seconds
//! to send what is not wanted gets its answer, too: it has [`IDLE_MAX`] without a byte, and [`ALL_MAX`] in all, as nginx and
//! Apache give it. What that may cost is bounded: in bytes, and in connections of one core at the same time.

use std::{cell::Cell, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::io::stream::Stream;

/// Without a byte from the client.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(5);
/// However steadily it sends.
const ALL_MAX: Duration = Duration::from_secs(30);
/// However fast it sends: a gigabit for a second.
const BYTES_MAX: usize = 128 << 20;
/// Connections of one core that linger at the same time; others are closed at once.
const CONNECTIONS_MAX: usize = 1024;
/// Read and forgotten at once.
const PIECE_BYTES: usize = 16 * 1024;

/// The connections of one core that linger.
#[derive(Debug, Default)]
pub(crate) struct Lingering(Cell<usize>);

/// One of them, until it is dropped.
struct Place<'a>(&'a Lingering);

impl Lingering {
    fn place(&self) -> Option<Place<'_>> {
        let is_free = self.0.get() < CONNECTIONS_MAX;
        is_free.then(|| {
            self.0.set(self.0.get() + 1);
            Place(self)
        })
    }

    /// Ends this direction of `stream`, and closes it as soon as the other side has noticed.
    pub(crate) async fn linger<S: Stream>(&self, mut stream: S) {
        let Some(_place) = self.place() else { return };
        // The tunnel may have ended it before.
        let _ended = stream.shutdown().await;
        let _in_time = timeout(ALL_MAX, forget(&mut stream)).await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
    }
}

/// Reads until the other side has ended, or has had its time or its bytes.
async fn forget<S: Stream>(stream: &mut S) -> io::Result<()> {
    let (mut piece, mut bytes) = (vec![0; PIECE_BYTES], 0);
    while bytes < BYTES_MAX {
        match timeout(IDLE_MAX, stream.read(&mut piece)).await {
            Ok(Ok(count @ 1..)) => bytes += count,
            Ok(end) => return end.map(drop),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{io::duplex, time::Instant};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_has_five_seconds_and_a_sending_one_thirty() {
        let lingering = Lingering::default();
        let (near, _silent) = duplex(64);
        let started = Instant::now();
        lingering.linger(near).await;
        assert_eq!(started.elapsed(), IDLE_MAX);
        let (near, mut steady) = duplex(64);
        let sending = async {
            while steady.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let started = Instant::now();
        tokio::select! {
            () = lingering.linger(near) => {}
            () = sending => panic!("cut off after {:?}", started.elapsed()),
        }
        assert_eq!((started.elapsed(), lingering.0.get()), (ALL_MAX, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_floods_is_closed_after_so_many_bytes() {
        let (near, mut flood) = duplex(1 << 20);
        let flooding = async {
            let mut sent = 0;
            while flood.write_all(&[0; 1 << 16]).await.is_ok() {
                sent += 1 << 16;
            }
            sent
        };
        let lingering = Lingering::default();
        let ((), sent) = tokio::join!(lingering.linger(near), flooding);
        assert!((BYTES_MAX..BYTES_MAX + (2 << 20)).contains(&sent), "{sent} bytes");
    }
}
