//! The chunked coding (RFC 9112, section 7.1), byte by byte, so that it does not matter where the bytes are split.
//!
//! ```text
//! chunk-size [ BWS ";" chunk-ext ] CRLF chunk-data CRLF  …  0 CRLF  *( field-line CRLF )  CRLF
//! ```

use crate::{
    bytes::{is_ows, is_text_byte, is_token_byte},
    framing::malformed,
    piece::Piece,
    refusal::Refusal,
};

/// Digits of a chunk's size: so many fit a `u64`.
const SIZE_MAX_DIGITS: u8 = 16;
/// Bytes of all extensions of a body together. More is an attack (CVE-2023-39326 and its like).
const EXTENSIONS_MAX_BYTES: u16 = 4 * 1024;
/// Bytes of all trailers of a body together.
const TRAILERS_MAX_BYTES: u16 = 8 * 1024;

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone)]
pub(crate) struct Chunks {
    at: At,
    /// The size of the chunk that is being read, as far as its digits or its data came.
    size: u64,
    /// Bytes of extensions that may still come.
    extensions_left: u16,
    /// Bytes of trailers that may still come.
    trailers_left: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many digits have been read.
    Size(u8),
    /// White space behind the digits; only an extension may follow.
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a trailer, or of the empty line that ends the body.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    End,
}

impl Default for Chunks {
    fn default() -> Self {
        let extensions_left = EXTENSIONS_MAX_BYTES;
        let trailers_left = TRAILERS_MAX_BYTES;
        Self { at: At::Size(0), size: 0, extensions_left, trailers_left }
    }
}

impl Chunks {
    pub(crate) fn is_at_end(&self) -> bool {
        self.at == At::End
    }

    /// One run of data at most, and the framing before and behind it.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Piece, Refusal> {
        let mut piece = Piece { consumed: 0, data: 0..0 };
        while let Some(byte) = bytes.get(piece.consumed)
            && self.at != At::End
        {
            if self.at != At::Data {
                self.at = self.step(*byte)?;
                piece.consumed += 1;
            } else if piece.data.is_empty() {
                let len = self.take(bytes.len() - piece.consumed);
                piece.data = piece.consumed..piece.consumed + len;
                piece.consumed += len;
            } else {
                break;
            }
        }
        Ok(piece)
    }

    /// As much of the chunk's data as there is.
    fn take(&mut self, available: usize) -> usize {
        let len = usize::try_from(self.size).map_or(available, |size| size.min(available));
        self.size -= len as u64;
        if self.size == 0 {
            self.at = At::DataCr;
        }
        len
    }

    /// What one byte of framing leads to.
    fn step(&mut self, byte: u8) -> Result<At, Refusal> {
        match (self.at, byte) {
            (At::Size(1..), b'\r') | (At::Extension, b'\r') => Ok(At::SizeLf),
            (At::Size(1..), b';' | b' ' | b'\t') | (At::SizeSpace | At::Extension, _) => self.step_extension(byte),
            (At::Size(digits), _) => self.step_size(digits, byte),
            (At::SizeLf, b'\n') if self.size == 0 => Ok(At::TrailerStart),
            (At::SizeLf, b'\n') => Ok(At::Data),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size(0)),
            (At::TrailerStart, b'\r') => Ok(At::LastLf),
            (At::LastLf, b'\n') => Ok(At::End),
            (At::TrailerLf, b'\n') => Ok(At::TrailerStart),
            (At::TrailerStart | At::TrailerName | At::TrailerValue, _) => self.step_trailer(byte),
            (At::DataCr | At::DataLf, _) => malformed("a chunk: CR LF must follow its data"),
            (At::SizeLf | At::TrailerLf | At::LastLf | At::Data | At::End, _) => {
                malformed("a chunked body: CR may only stand before the LF that ends a line")
            }
        }
    }

    fn step_size(&mut self, digits: u8, byte: u8) -> Result<At, Refusal> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return malformed("a chunk: its size must be hexadecimal digits, and CR LF must follow"),
        };
        if digits == SIZE_MAX_DIGITS {
            return malformed("a chunk: its size must have 16 digits or fewer");
        }
        self.size = if digits == 0 { 0 } else { self.size << 4 } | u64::from(digit);
        Ok(At::Size(digits + 1))
    }

    fn step_extension(&mut self, byte: u8) -> Result<At, Refusal> {
        let Some(left) = self.extensions_left.checked_sub(1) else {
            return malformed("the chunks: their extensions must not be longer than 4 KiB together");
        };
        self.extensions_left = left;
        match (self.at, byte) {
            (At::Size(_) | At::SizeSpace, b' ' | b'\t') => Ok(At::SizeSpace),
            (At::Size(_) | At::SizeSpace, b';') => Ok(At::Extension),
            (At::Extension, _) if is_text_byte(byte) => Ok(At::Extension),
            _ => malformed("a chunk: only an extension without control characters may stand behind its size"),
        }
    }

    /// A trailer is read like a field line, and forgotten.
    fn step_trailer(&mut self, byte: u8) -> Result<At, Refusal> {
        let Some(left) = self.trailers_left.checked_sub(1) else {
            return malformed("the trailers: they must not be longer than 8 KiB together");
        };
        self.trailers_left = left;
        match (self.at, byte) {
            (At::TrailerStart | At::TrailerName, _) if is_token_byte(byte) => Ok(At::TrailerName),
            (At::TrailerName, b':') => Ok(At::TrailerValue),
            (At::TrailerValue, b'\r') => Ok(At::TrailerLf),
            (At::TrailerValue, _) if is_text_byte(byte) => Ok(At::TrailerValue),
            (At::TrailerStart, _) if is_ows(byte) => malformed("a trailer: it must not be folded over several lines"),
            _ => malformed("a trailer: it must be a name, a colon and a value without control characters"),
        }
    }
}
