//! The versions that are read.

use crate::{connection::Options, refusal::Refusal};

/// The version of a message. Written is always HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Closes after each message unless asked not to, and knows no chunked coding.
    Http10,
    /// RFC 9112.
    Http11,
}

impl Version {
    /// `HTTP/1.1` and its like at the front of `bytes`; eight bytes are used up.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnsupportedVersion`] for another number, [`Refusal::Malformed`] for anything that is no version.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        match bytes.first_chunk::<8>() {
            Some(b"HTTP/1.1") => Ok(Self::Http11),
            Some(b"HTTP/1.0") => Ok(Self::Http10),
            Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                Err(Refusal::UnsupportedVersion)
            }
            _ => Err(Refusal::Malformed("the start line: its version must be HTTP/1.1 or HTTP/1.0, after one space")),
        }
    }

    /// Whether the connection lives on after the message (RFC 9112, section 9.3). `close` goes before `keep-alive`.
    pub(crate) fn keeps_alive(self, options: Options) -> bool {
        !options.close && (self == Self::Http11 || options.keep_alive)
    }
}
