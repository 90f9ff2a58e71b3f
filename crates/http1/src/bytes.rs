//! Which byte may stand where: one table look-up a byte, or eight bytes at once.

/// `tchar` of RFC 9110, section 5.6.2: field names, methods, connection options.
const TOKEN: u8 = 1;
/// A request target: visible ASCII but `#`, which begins a fragment and is never sent (RFC 9112, section 3.2).
const TARGET: u8 = 2;
/// What stands in a host besides `%` and brackets: the unreserved characters of RFC 3986.
const HOST: u8 = 4;
/// `_`.
const UNDERSCORE: u8 = 8;

/// A byte of ones, eight times.
const ONES: u64 = u64::MAX / 255;
/// The highest bit of each byte.
const TOPS: u64 = ONES << 7;

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
        if byte == b'_' {
            class |= UNDERSCORE;
        }
        classes[byte as usize] = class;
        byte += 1;
    }
    classes
};

#[inline]
fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

#[inline]
pub(crate) fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

#[inline]
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
#[inline]
pub(crate) fn is_ows(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Where the token that begins at `from` ends.
#[inline]
pub(crate) fn token_end(bytes: &[u8], from: usize) -> usize {
    run_end(bytes, from, TOKEN)
}

/// Where the name that begins at `from` ends, a token, and whether `_` is in it.
#[inline]
pub(crate) fn name_end(bytes: &[u8], from: usize) -> (usize, bool) {
    let rest = bytes.get(from..).unwrap_or_default();
    let mut classes = 0;
    let len = rest.iter().position(|byte| {
        let class = CLASSES[usize::from(*byte)];
        classes |= class;
        class & TOKEN == 0
    });
    // What ends a token is no `_`.
    (from + len.unwrap_or(rest.len()), classes & UNDERSCORE != 0)
}

/// Where the host's name that begins at `from` ends, or its first percent sign stands.
#[inline]
pub(crate) fn host_end(bytes: &[u8], from: usize) -> usize {
    run_end(bytes, from, HOST)
}

/// Where the first LF is, from `from` on. Eight bytes a step, as [`control_at`].
#[inline]
pub(crate) fn line_feed(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..).unwrap_or_default();
    let (words, tail) = rest.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(b'\n'));
        let hits = word.wrapping_sub(ONES) & !word & TOPS;
        if hits != 0 {
            return Some(from + index * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    tail.iter().position(|byte| *byte == b'\n').map(|at| from + words.len() * 8 + at)
}

/// Whether two tokens of the same length are equal, where case does not matter; `lower` is in lower case. Eight bytes a
/// step: in a token, `0x20` tells only letters of one case from those of the other, and turns no other byte of one into
/// a letter, a digit or a hyphen.
#[inline]
pub(crate) fn is_same_token(token: &[u8], lower: &[u8]) -> bool {
    const CASE: u64 = ONES * 0x20;
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes) | CASE;
    let half = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) | CASE as u32;
    if token.len() != lower.len() {
        return false;
    }
    // The last word overlaps the one before it.
    if let (Some(last), Some(lower_last)) = (token.last_chunk::<8>(), lower.last_chunk::<8>()) {
        let (words, lower_words) = (token.as_chunks::<8>().0, lower.as_chunks::<8>().0);
        word(last) == word(lower_last) && words.iter().zip(lower_words).all(|(a, b)| word(a) == word(b))
    } else if let (Some(last), Some(lower_last)) = (token.last_chunk::<4>(), lower.last_chunk::<4>()) {
        let firsts = token.first_chunk::<4>().zip(lower.first_chunk::<4>());
        half(last) == half(lower_last) && firsts.is_some_and(|(a, b)| half(a) == half(b))
    } else {
        token.iter().zip(lower).all(|(a, b)| a | 0x20 == b | 0x20)
    }
}

/// Where the target that begins at `from` ends.
#[inline]
pub(crate) fn target_end(bytes: &[u8], from: usize) -> usize {
    run_end(bytes, from, TARGET)
}

#[inline]
fn run_end(bytes: &[u8], from: usize, class: u8) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|byte| !is(*byte, class)).unwrap_or(rest.len())
}

/// Where the text that begins at `from` ends: at the first control byte that is no tab, or behind the last byte.
#[inline]
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
#[inline]
fn control_at(bytes: &[u8], from: usize) -> usize {
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
    fn a_line_feed_is_found_at_every_place_and_nothing_else_is_one() {
        for len in 0..40 {
            for at in 0..len {
                for byte in 0..=255 {
                    let mut bytes = vec![0x0b; len];
                    bytes[at] = byte;
                    assert_eq!(line_feed(&bytes, 0), (byte == b'\n').then_some(at), "{byte} at {at}");
                }
            }
        }
    }

    #[test]
    fn tokens_of_every_length_are_the_same_in_any_case_and_with_no_other_byte() {
        let all: Vec<u8> = (0..=255).filter(|byte| is_token_byte(*byte)).collect();
        let lower = b"http2-settings-of-an-x";
        for len in 0..=lower.len() {
            let lower = &lower[..len];
            assert!(is_same_token(lower, lower) && is_same_token(&lower.to_ascii_uppercase(), lower));
            assert!(!is_same_token(lower, b"http2-settings-of-an-x-y"));
            for at in 0..len {
                for byte in &all {
                    let mut token = lower.to_vec();
                    token[at] = *byte;
                    let expected = token.eq_ignore_ascii_case(lower);
                    assert_eq!(is_same_token(&token, lower), expected, "{}", token.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn a_name_tells_of_its_underscores() {
        assert_eq!(name_end(b"a_b: c_d", 0), (3, true));
        assert_eq!(name_end(b"_: a", 1), (1, false));
        assert_eq!(name_end(b"a-b_", 0), (4, true));
        assert_eq!(name_end(b"a: b_c", 0), (1, false));
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
