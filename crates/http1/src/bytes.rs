//! Which byte may stand where: one table look-up a byte, or eight bytes at once.

/// `tchar` of RFC 9110, section 5.6.2: field names, methods, connection options.
const TOKEN: u8 = 1;
/// A request target: visible ASCII but `#`, which begins a fragment and is never sent (RFC 9112, section 3.2).
const TARGET: u8 = 2;
/// What stands in a host besides `%` and brackets: the unreserved characters of RFC 3986.
const HOST: u8 = 4;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0x21_u8;
    while byte < 0x7f {
        let alphanumeric = byte.is_ascii_alphanumeric();
        let mut class = 0;
        if byte != b'#' {
            class |= TARGET;
        }
        if alphanumeric || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~') {
            class |= TOKEN;
        }
        if alphanumeric || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            class |= HOST;
        }
        classes[byte as usize] = class;
        byte += 1;
    }
    classes
};

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

pub(crate) fn is_host_byte(byte: u8) -> bool {
    is(byte, HOST)
}

/// `1*tchar`.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// `HTAB / SP / VCHAR / obs-text`: what a field value, a reason and a chunk extension are made of.
pub(crate) fn is_text_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Optional white space (RFC 9110, section 5.6.3).
pub(crate) fn is_ows(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Where the token that begins at `from` ends.
pub(crate) fn token_end(bytes: &[u8], from: usize) -> usize {
    run_end(bytes, from, TOKEN)
}

/// Where the target that begins at `from` ends.
pub(crate) fn target_end(bytes: &[u8], from: usize) -> usize {
    run_end(bytes, from, TARGET)
}

fn run_end(bytes: &[u8], from: usize, class: u8) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is(*byte, class)).unwrap_or(rest.len())
}

/// Where the text that begins at `from` ends: at the first control byte that is no tab, or behind the last byte.
pub(crate) fn text_end(bytes: &[u8], mut from: usize) -> usize {
    loop {
        from = control_at(bytes, from);
        if bytes.get(from) != Some(&b'\t') {
            return from;
        }
        from += 1;
    }
}

/// The first byte below `0x20` or equal to `0x7f`, from `from` on. Eight bytes a step: in each lane, the subtraction
/// borrows only where the byte is smaller, and a borrow can only disturb lanes behind a hit, which are not looked at.
fn control_at(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let rest = bytes.get(from..).unwrap_or_default();
    let (words, tail) = rest.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let delete = (word ^ (ONES * 0x7f)).wrapping_sub(ONES) & !(word ^ (ONES * 0x7f));
        let hits = (below_space | delete) & TOPS;
        if hits != 0 {
            return from + index * 8 + hits.trailing_zeros() as usize / 8;
        }
    }
    let behind = from + words.len() * 8;
    behind + tail.iter().position(|byte| *byte < b' ' || *byte == 0x7f).unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_the_rfc_lists() {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert!((0..=255).all(|byte| is_token_byte(byte) == allowed(byte)));
    }

    #[test]
    fn a_target_is_visible_ascii_without_a_fragment() {
        let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        assert!((0..=255).all(|byte| is(byte, TARGET) == allowed(byte)));
    }

    #[test]
    fn the_end_of_text_is_found_at_every_place_and_for_every_byte() {
        for len in 0..40 {
            for at in 0..len {
                for byte in 0..=255 {
                    let mut bytes = vec![0xff; len];
                    bytes[at] = byte;
                    assert_eq!(text_end(&bytes, 0), if is_text_byte(byte) { len } else { at }, "{byte} at {at}");
                }
            }
        }
    }
}
