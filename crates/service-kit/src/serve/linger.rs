//! The end of a connection whose client may still be sending.
//!
//! A socket that is closed while bytes arrive for it is reset, and the reset takes away from the client what it has not
//! read yet: the answer that says why its body was refused. So the own direction is closed, and the rest is read and
//! forgotten until the client has noticed (RFC 9112, section 9.6).

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// Longest wait for the next byte, or for the end.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Longest wait in all: a client of 10 Mbit/s has sent 37 MB by then.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// Most bytes that are read and forgotten: six of the largest messages that `mail` takes by default.
const READ_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Closes our direction, and reads until the client has closed its own, or for as long as it may.
pub(super) async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let drain = async {
        stream.shutdown().await?;
        let mut scratch = vec![0; 16 * 1024];
        let mut rest = READ_MAX_BYTES;
        while rest > 0 {
            match timeout(SILENCE_MAX, stream.read(&mut scratch)).await {
                Ok(Ok(count @ 1..)) => rest = rest.saturating_sub(count as u64),
                _ => break,
            }
        }
        io::Result::Ok(())
    };
    let _best_effort = timeout(LINGER_MAX, drain).await;
}
