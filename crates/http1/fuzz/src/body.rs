//! Bodies: the same content and the same end, however the bytes are split.

use http1::{BodyDecoder, Framing, Refusal, write};

/// A body as it was decoded: its content, the bytes that it used, and whether it was complete.
type Decoded = (Vec<u8>, usize, bool);

/// Decodes `input` as a body: `l` and a byte in front of it stand for a length, `u` for until the peer closes, anything
/// else for chunks. The second byte is also how the input is split.
///
/// # Errors
///
/// What the decoder said of it.
///
/// # Panics
///
/// If something does not hold that must.
pub fn body(input: &[u8]) -> Result<Vec<u8>, Refusal> {
    let (framing, seed, bytes) = match input {
        [b'l', length, rest @ ..] => (Framing::Length(u64::from(*length)), *length, rest),
        [b'u', seed, rest @ ..] => (Framing::UntilClose, *seed, rest),
        [_, seed, rest @ ..] => (Framing::Chunked, *seed, rest),
        _ => return Ok(Vec::new()),
    };
    let at_once = decode(framing, bytes, usize::MAX);
    assert_eq!(decode(framing, bytes, 1), at_once, "byte by byte");
    assert_eq!(decode(framing, bytes, usize::from(seed) % 61 + 2), at_once, "in pieces");
    let (content, used, complete) = at_once?;
    match framing {
        Framing::Length(length) => assert_eq!(content, bytes[..bytes.len().min(length as usize)]),
        Framing::UntilClose => assert_eq!(content, bytes),
        Framing::Chunked | Framing::Empty => {
            assert!(complete || used == bytes.len(), "more bytes are asked for only when all are used");
            written_again_it_is_the_same(&content, usize::from(seed) + 1);
        }
    }
    if complete { Ok(content) } else { Err(Refusal::Truncated) }
}

/// Decodes what comes in pieces of `step` bytes.
fn decode(framing: Framing, bytes: &[u8], step: usize) -> Result<Decoded, Refusal> {
    let mut decoder = BodyDecoder::new(framing);
    let mut content = Vec::new();
    let mut used = 0;
    for mut arrived in bytes.chunks(step.min(bytes.len()).max(1)) {
        while !arrived.is_empty() && !decoder.is_at_end() {
            let piece = decoder.decode(arrived).inspect_err(|refusal| {
                assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(*refusal), "refused stays refused");
                assert_eq!(decoder.close(), Err(*refusal));
            })?;
            assert!(piece.consumed > 0 && piece.data.end <= piece.consumed, "it moves on");
            content.extend_from_slice(&arrived[piece.data]);
            used += piece.consumed;
            arrived = &arrived[piece.consumed..];
        }
    }
    let closed = decoder.close();
    assert_eq!(closed.is_ok(), decoder.is_at_end());
    Ok((content, used, closed.is_ok()))
}

fn written_again_it_is_the_same(content: &[u8], step: usize) {
    let mut written = Vec::new();
    content.chunks(step).for_each(|data| write::chunk(&mut written, data));
    written.extend_from_slice(write::LAST_CHUNK);
    let whole = (content.to_vec(), written.len(), true);
    assert_eq!(decode(Framing::Chunked, &written, usize::MAX), Ok(whole));
}
