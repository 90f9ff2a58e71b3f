//! Taking a body out of its framing.

use crate::{chunked::Chunks, framing::Framing, piece::Piece, refusal::Refusal};

/// Takes one body out of its framing, piece by piece, in whatever pieces the bytes arrive.
///
/// Chunk extensions and trailers are checked, bounded and dropped: no instance behind a gateway needs them, and both
/// have carried attacks (RFC 9110, section 6.5.1).
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// Bytes that are still to come, one at least.
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    AtEnd,
    /// Was refused; stays refused.
    Refused(Refusal),
}

impl BodyDecoder {
    /// A decoder for one body with this framing. Without a body it is at its end from the beginning.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::AtEnd,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunks::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// The next piece, at the front of `bytes`. Call again with the bytes behind it while some were
    /// [consumed](Piece::consumed) and the body is not [at its end](Self::is_at_end); what follows the end is the next
    /// message and stays untouched.
    ///
    /// # Errors
    ///
    /// [`Refusal::Malformed`] if a chunk is not as it must be; then again and again.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Piece, Refusal> {
        let piece = match &mut self.state {
            State::Length(remaining) => {
                let len = usize::try_from(*remaining).map_or(bytes.len(), |remaining| remaining.min(bytes.len()));
                *remaining -= len as u64;
                Piece { consumed: len, data: 0..len }
            }
            State::Chunked(chunks) => match chunks.decode(bytes) {
                Ok(piece) => piece,
                Err(refusal) => {
                    self.state = State::Refused(refusal);
                    return Err(refusal);
                }
            },
            State::UntilClose => Piece { consumed: bytes.len(), data: 0..bytes.len() },
            State::AtEnd => Piece { consumed: 0, data: 0..0 },
            State::Refused(refusal) => return Err(*refusal),
        };
        if matches!(&self.state, State::Length(0))
            || matches!(&self.state, State::Chunked(chunks) if chunks.is_at_end())
        {
            self.state = State::AtEnd;
        }
        Ok(piece)
    }

    /// Whether the body is complete, so that the next byte belongs to the next message.
    pub fn is_at_end(&self) -> bool {
        matches!(self.state, State::AtEnd)
    }

    /// How many bytes of the body are still to come, where that is known: of a declared length, and 0 at the end.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(remaining) => Some(remaining),
            State::AtEnd => Some(0),
            State::Chunked(_) | State::UntilClose | State::Refused(_) => None,
        }
    }

    /// The peer has closed. A body that lasts until then is now at its end.
    ///
    /// # Errors
    ///
    /// [`Refusal::Truncated`] if more had to come: the body must not be passed on as if it were whole.
    pub fn close(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::AtEnd => Ok(()),
            State::UntilClose => {
                self.state = State::AtEnd;
                Ok(())
            }
            State::Refused(refusal) => Err(refusal),
            State::Length(_) | State::Chunked(_) => Err(Refusal::Truncated),
        }
    }
}
