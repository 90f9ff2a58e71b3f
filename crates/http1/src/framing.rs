//! Where a body ends (RFC 9112, section 6): the decision that two parsers must not make differently.

use crate::{
    fields::{Fields, One},
    refusal::Refusal,
    version::Version,
};

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none. A declared length of 0 is this too.
    Empty,
    /// So many bytes, one at least.
    Length(u64),
    /// In chunks, each with its size, until one of size 0.
    Chunked,
    /// Until the peer closes. Responses only.
    UntilClose,
}

/// What the fields say about the body, before it is known whether the message may have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declared {
    Nothing,
    Length(u64),
    Chunked,
}

impl Declared {
    /// # Errors
    ///
    /// Anything but one `Content-Length` of digits, or one `Transfer-Encoding` that is `chunked` in HTTP/1.1, or none.
    /// RFC 9112, section 6.3, lets a recipient mend some of it; mended messages are what smuggling is made of.
    pub(crate) fn parse(fields: &Fields<'_>, version: Version) -> Result<Self, Refusal> {
        use crate::name::Name::{ContentLength, TransferEncoding};
        match (fields.get(TransferEncoding), fields.get(ContentLength)) {
            (One::Absent, One::Absent) => Ok(Self::Nothing),
            (One::Absent, One::One(length)) => parse_length(length).map(Self::Length),
            (One::Absent, One::Several) => malformed("Content-Length: it must not be there twice"),
            (_, One::One(_) | One::Several) => {
                malformed("Transfer-Encoding and Content-Length: they must not both be there")
            }
            (One::Several, One::Absent) => malformed("Transfer-Encoding: it must not be there twice"),
            (One::One(_), One::Absent) if version == Version::Http10 => {
                malformed("Transfer-Encoding: HTTP/1.0 does not know it; send HTTP/1.1 or a Content-Length")
            }
            (One::One(coding), One::Absent) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Self::Chunked),
            (One::One(_), One::Absent) => Err(Refusal::UnsupportedCoding),
        }
    }

    /// A body that is declared, or else `without`.
    pub(crate) fn framing_or(self, without: Framing) -> Framing {
        match self {
            Self::Nothing => without,
            Self::Length(0) => Framing::Empty,
            Self::Length(length) => Framing::Length(length),
            Self::Chunked => Framing::Chunked,
        }
    }
}

fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    let digit = |length: u64, byte: &u8| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        length.checked_mul(10)?.checked_add(u64::from(digit))
    };
    match value.iter().try_fold(0, digit) {
        Some(length) if !value.is_empty() => Ok(length),
        _ => malformed("Content-Length: it must be one decimal number below 2^64"),
    }
}

pub(crate) fn malformed<T>(what: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Malformed(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_digits_that_fit() {
        assert_eq!(parse_length(b"0"), Ok(0));
        assert_eq!(parse_length(b"007"), Ok(7));
        assert_eq!(parse_length(b"18446744073709551615"), Ok(u64::MAX));
        for value in ["", "+5", "-1", "0x5", "5 5", "5,5", "5;", "1e3", "\u{665}", "18446744073709551616", "5_0"] {
            assert!(parse_length(value.as_bytes()).is_err(), "{value}");
        }
    }
}
