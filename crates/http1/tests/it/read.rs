//! Short ways to read a message in a test.

use http1::{BodyDecoder, Limits, Method, Refusal, Request, Response, Scan};

/// Hands the request at the front of `bytes` to `look`.
pub(crate) fn request<T>(bytes: &[u8], look: impl FnOnce(Request<'_>) -> T) -> Result<T, Refusal> {
    request_within(bytes, &Limits::default(), look)
}

/// The same with other limits.
pub(crate) fn request_within<T>(
    bytes: &[u8],
    limits: &Limits,
    look: impl FnOnce(Request<'_>) -> T,
) -> Result<T, Refusal> {
    let mut scan = Scan::default();
    scan.read(bytes, limits).expect("the head is complete");
    scan.head(bytes).expect("it was read").request(limits).map(look)
}

/// Hands the response to `method` at the front of `bytes` to `look`.
pub(crate) fn response_to<T>(
    method: Method<'_>,
    bytes: &[u8],
    look: impl FnOnce(Response<'_>) -> T,
) -> Result<T, Refusal> {
    let (mut scan, limits) = (Scan::default(), Limits::default());
    scan.read(bytes, &limits).expect("the head is complete");
    scan.head(bytes).expect("it was read").response(&limits, &method).map(look)
}

/// Hands the response to a GET at the front of `bytes` to `look`.
pub(crate) fn response<T>(bytes: &[u8], look: impl FnOnce(Response<'_>) -> T) -> Result<T, Refusal> {
    response_to(Method::Get, bytes, look)
}

/// The content of a body, and what is behind it; `None` while more bytes are needed.
pub(crate) type Content<'a> = Option<(Vec<u8>, &'a [u8])>;

/// Takes the body at the front of `bytes` out of its framing.
pub(crate) fn content<'a>(decoder: &mut BodyDecoder, mut bytes: &'a [u8]) -> Result<Content<'a>, Refusal> {
    let mut content = Vec::new();
    while !decoder.is_at_end() {
        let piece = decoder.decode(bytes)?;
        if piece.consumed == 0 {
            return Ok(None);
        }
        content.extend_from_slice(&bytes[piece.data]);
        bytes = &bytes[piece.consumed..];
    }
    Ok(Some((content, bytes)))
}
