//! A body that is read out of the framing of HTTP/1.1 where it has arrived: its runs are borrowed from the stream's
//! buffer.

use http1::{BodyDecoder, Framing, Refusal};

use crate::io::{buffered_stream::BufferedStream, stream::Stream};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct BodyReader {
    decoder: BodyDecoder,
    /// So many unread bytes of the stream, the first ones, are body.
    run: usize,
    /// So many bytes of framing follow the run.
    behind_run: usize,
}

// === impl BodyReader ===

impl BodyReader {
    /// One of a body with this framing, whose first byte is the next one of its stream.
    pub(crate) fn new(framing: Framing) -> Self {
        Self { decoder: BodyDecoder::new(framing), run: 0, behind_run: 0 }
    }

    /// Finds the next run in what has come, unless there is one.
    ///
    /// # Errors
    ///
    /// The body is not framed as it should be.
    pub(crate) fn next_run<S: Stream>(&mut self, stream: &mut BufferedStream<S>) -> Result<(), Refusal> {
        while self.run == 0 && !self.decoder.is_at_end() {
            let piece = self.decoder.decode(stream.unread())?;
            if piece.consumed == 0 {
                break;
            }
            self.run = piece.data.len();
            if self.run == 0 {
                stream.consume(piece.consumed);
            } else {
                stream.consume(piece.data.start);
                self.behind_run = piece.consumed - piece.data.end;
            }
        }
        Ok(())
    }

    /// The run that is there; empty when there is none.
    pub(crate) fn run<'a, S: Stream>(&self, stream: &'a BufferedStream<S>) -> &'a [u8] {
        &stream.unread()[..self.run]
    }

    /// The first `count` bytes of the run are used up.
    pub(crate) fn consume<S: Stream>(&mut self, stream: &mut BufferedStream<S>, count: usize) {
        self.run -= count;
        let behind = if self.run == 0 { std::mem::take(&mut self.behind_run) } else { 0 };
        stream.consume(count + behind);
    }

    /// The other side has ended its direction.
    ///
    /// # Errors
    ///
    /// That was not the end of the body.
    pub(crate) fn close(&mut self) -> Result<(), Refusal> {
        self.decoder.close()
    }

    /// Whether the whole body has come, though a run may be left.
    pub(crate) fn has_come(&self) -> bool {
        self.decoder.is_at_end()
    }

    /// How many bytes are still to come, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// Whether nothing has come that is not the run, or framing around it.
    pub(crate) fn has_decoded_all<S: Stream>(&self, stream: &BufferedStream<S>) -> bool {
        self.run + self.behind_run == stream.unread().len()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;
    use crate::io::buffers::Buffers;

    #[tokio::test]
    async fn runs_are_the_body_without_its_chunks_and_what_follows_is_not_touched() {
        let (near, mut far) = duplex(1024);
        let mut stream = BufferedStream::new(near, Buffers::default());
        far.write_all(b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\nGET").await.unwrap();
        poll_fn(|cx| stream.poll_read_some(cx)).await.unwrap();
        let (mut body, mut runs) = (BodyReader::new(Framing::Chunked), Vec::new());
        loop {
            body.next_run(&mut stream).unwrap();
            let count = body.run(&stream).len().min(3);
            if count == 0 {
                break;
            }
            runs.push(body.run(&stream)[..count].to_vec());
            body.consume(&mut stream, count);
        }
        assert_eq!(runs, [b"hel".to_vec(), b"lo".to_vec(), b"!".to_vec()]);
        assert!(body.has_come() && stream.unread() == b"GET");
    }
}
