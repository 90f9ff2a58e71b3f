//! Bodies out of their framing.

use http1::{BodyDecoder, Framing, Piece, Refusal};

use crate::read::{Content, content};

/// The content of `bytes` and what is behind it.
fn chunked(bytes: &[u8]) -> Result<Content<'_>, Refusal> {
    content(&mut BodyDecoder::new(Framing::Chunked), bytes)
}

/// Whether `bytes` are refused as no chunked body.
fn is_malformed(bytes: &[u8]) -> bool {
    matches!(chunked(bytes), Err(Refusal::Malformed(_)))
}

#[test]
fn a_body_ends_with_its_length_and_what_follows_stays() {
    let mut decoder = BodyDecoder::new(Framing::Length(5));
    assert_eq!(decoder.decode(b"hel"), Ok(Piece { consumed: 3, data: 0..3 }));
    assert_eq!((decoder.remaining(), decoder.is_at_end()), (Some(2), false));
    assert_eq!(decoder.decode(b"loGET "), Ok(Piece { consumed: 2, data: 0..2 }));
    assert_eq!((decoder.remaining(), decoder.is_at_end()), (Some(0), true));
    assert_eq!(decoder.decode(b"GET "), Ok(Piece { consumed: 0, data: 0..0 }));
    assert_eq!(decoder.close(), Ok(()));
}

#[test]
fn no_body_is_at_its_end_from_the_beginning() {
    for framing in [Framing::Empty, Framing::Length(0)] {
        let decoder = BodyDecoder::new(framing);
        assert!(decoder.is_at_end() && decoder.remaining() == Some(0));
    }
}

#[test]
fn a_close_ends_only_a_body_that_lasts_until_then() {
    let mut until_close = BodyDecoder::new(Framing::UntilClose);
    assert_eq!(until_close.decode(b"abc"), Ok(Piece { consumed: 3, data: 0..3 }));
    assert!(!until_close.is_at_end());
    assert_eq!((until_close.close(), until_close.is_at_end()), (Ok(()), true));
    for framing in [Framing::Length(1), Framing::Chunked] {
        assert_eq!(BodyDecoder::new(framing).close(), Err(Refusal::Truncated), "{framing:?}");
    }
    for part in [&b"5"[..], b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"0\r\n", b"0\r\na: b\r\n", b"0\r\n\r"] {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        assert_eq!(content(&mut decoder, part), Ok(None));
        assert_eq!(decoder.close(), Err(Refusal::Truncated), "{}", part.escape_ascii());
    }
}

#[test]
fn chunks_are_put_together_and_extensions_and_trailers_dropped() {
    let bytes = b"5\r\nhello\r\n00A ;a=b;c=\"d\" \t\r\n, chunked!\r\n0;x\r\nContent-Length: 9\r\nx:\r\n\r\nGET ";
    assert_eq!(chunked(bytes), Ok(Some((b"hello, chunked!".to_vec(), b"GET ".as_slice()))));
    assert_eq!(chunked(b"0\r\n\r\n"), Ok(Some((vec![], b"".as_slice()))));
}

#[test]
fn a_chunk_and_the_line_of_the_next_are_one_piece() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decoder.decode(b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"), Ok(Piece { consumed: 10, data: 3..5 }));
    assert_eq!(decoder.decode(b"cde\r\n0\r\n\r\n"), Ok(Piece { consumed: 10, data: 0..3 }));
    assert!(decoder.is_at_end());
}

#[test]
fn a_size_is_up_to_16_hexadecimal_digits_and_nothing_else() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    assert_eq!(decoder.decode(b"ffffffffffffffff\r\nab"), Ok(Piece { consumed: 20, data: 18..20 }));
    assert_eq!(chunked(b"0000000000000001\r\na\r\n0\r\n\r\n"), Ok(Some((b"a".to_vec(), b"".as_slice()))));
    for size in [
        "",
        " 5",
        "0x5",
        "+5",
        "-5",
        "5_",
        "5h",
        "00000000000000005",
        "10000000000000000",
        "5 ",
        "5\t",
        "5 5",
        "\u{665}",
    ] {
        let bytes = format!("{size}\r\nhello\r\n0\r\n\r\n");
        assert!(is_malformed(bytes.as_bytes()), "{size:?}");
    }
}

#[test]
fn every_line_of_a_chunked_body_ends_with_cr_lf() {
    for bytes in [
        &b"5\nhello\r\n0\r\n\r\n"[..],
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello\rX0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5;a\r\r\nhello\r\n0\r\n\r\n",
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\n\rX",
        b"0\r\na: b\n\r\n",
        b"0\r\na: b\rc\r\n\r\n",
    ] {
        assert!(is_malformed(bytes), "{}", bytes.escape_ascii());
    }
}

#[test]
fn an_extension_has_no_control_characters() {
    for bytes in [&b"5;\0\r\nhello"[..], b"5;a\x7f\r\nhello", b"5;\x0b\r\nhello", b"5 \x01;\r\nhello", b"5 x\r\nhello"]
    {
        assert!(is_malformed(bytes), "{}", bytes.escape_ascii());
    }
}

#[test]
fn trailers_are_fields_even_though_they_are_dropped() {
    for trailer in ["a b: c", "a : b", ": b", "a", " a: b", "a: b\r\n c", "a: \0", "\u{e4}: b"] {
        let bytes = format!("0\r\n{trailer}\r\n\r\n");
        assert!(is_malformed(bytes.as_bytes()), "{trailer:?}");
    }
}

#[test]
fn extensions_are_bounded_over_all_chunks_together() {
    let chunks = |len: usize| format!("1;{}\r\na\r\n", "x".repeat(len - 1)).repeat(2) + "0\r\n\r\n";
    assert!(matches!(chunked(chunks(2048).as_bytes()), Ok(Some(_))));
    assert!(is_malformed(chunks(2049).as_bytes()));
}

#[test]
fn trailers_are_bounded() {
    let trailers = |len: usize| format!("0\r\na:{}\r\n\r\n", "x".repeat(len - 3));
    assert!(matches!(chunked(trailers(8192).as_bytes()), Ok(Some(_))));
    assert!(is_malformed(trailers(8193).as_bytes()));
    let endless = "a: b\r\n".repeat(2000);
    assert!(is_malformed(format!("0\r\n{endless}").as_bytes()));
}
