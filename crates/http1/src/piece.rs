//! One step of taking a body out of its framing: what was used up, and which of it is body.

use std::ops::Range;

/// What [`BodyDecoder::decode`](crate::BodyDecoder::decode) found at the front of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// So many bytes are used up. 0 only if there were none, or the body was at its end before.
    pub consumed: usize,
    /// Which of the used bytes are body. Often all, sometimes none.
    pub data: Range<usize>,
}
