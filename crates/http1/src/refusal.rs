//! Why a message is not read any further.

/// Why a message is refused. After one, where the next message begins is unknown: answer, then close the connection.
///
/// | refusal | to a client | about an instance |
/// |---|---|---|
/// | [`Malformed`](Self::Malformed) | 400 | 502 |
/// | [`HeadTooLarge`](Self::HeadTooLarge), [`TooManyFields`](Self::TooManyFields) | 431 | 502 |
/// | [`TargetTooLong`](Self::TargetTooLong) | 414 | |
/// | [`UnsupportedCoding`](Self::UnsupportedCoding) | 501 | 502 |
/// | [`UnsupportedVersion`](Self::UnsupportedVersion) | 505 | 502 |
/// | [`UnknownExpectation`](Self::UnknownExpectation) | 417 | |
/// | [`Truncated`](Self::Truncated) | nobody is there | 502 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not HTTP/1.1, or could be read in two ways. The sentence names the part and says what to change.
    #[error("{0}")]
    Malformed(&'static str),
    /// More bytes than [`Limits::head_max_bytes`](crate::Limits::head_max_bytes).
    #[error("the head is too large: send fewer or shorter fields")]
    HeadTooLarge,
    /// More lines than [`Limits::fields_max`](crate::Limits::fields_max).
    #[error("the head has too many fields: send fewer")]
    TooManyFields,
    /// More bytes than [`Limits::target_max_bytes`](crate::Limits::target_max_bytes).
    #[error("the request target is too long: move what can be moved into the body")]
    TargetTooLong,
    /// One `Transfer-Encoding` line that is something else than `chunked` (RFC 9112, section 6.1).
    #[error("Transfer-Encoding: it must be \"chunked\", alone")]
    UnsupportedCoding,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the version must be HTTP/1.1 or HTTP/1.0")]
    UnsupportedVersion,
    /// An `Expect` that is not `100-continue` (RFC 9110, section 10.1.1).
    #[error("Expect: only \"100-continue\" is understood")]
    UnknownExpectation,
    /// The peer closed before the body was complete.
    #[error("the connection was closed before the body was complete")]
    Truncated,
}
