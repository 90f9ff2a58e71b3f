//! Every framing line with any one byte put in, replaced or left out: what is still accepted means what it says.

use http1::{Framing, Refusal};

use crate::read::request;

/// What one line of a request turned out to be.
type Line = (Vec<u8>, Vec<u8>, Framing);

/// Calls `check` with each mutation of `line`, its place in a POST, and what was read of it.
fn each_mutation(line: &str, others: &str, check: impl Fn(&[u8], Result<Line, Refusal>)) {
    for at in 0..line.len() {
        for byte in 0..=255_u8 {
            for taken in 0..2 {
                mutate(line, others, at, taken, &[byte], &check);
            }
        }
        mutate(line, others, at, 1, &[], &check);
    }
}

fn mutate(line: &str, others: &str, at: usize, taken: usize, put: &[u8], check: impl Fn(&[u8], Result<Line, Refusal>)) {
    let mutated = [&line.as_bytes()[..at], put, &line.as_bytes()[at + taken..]].concat();
    let bytes = [b"POST / HTTP/1.1\r\nHost: a\r\n", others.as_bytes(), mutated.as_slice(), b"\r\n\r\n"].concat();
    let read = request(&bytes, |request| {
        let last = request.fields.iter().last().unwrap();
        (last.name.to_vec(), last.value.to_vec(), request.framing)
    });
    check(&mutated, read);
}

/// Whether the letters of `name` are those of `field`.
fn spells(name: &[u8], field: &str) -> bool {
    let letters = |name: &[u8]| {
        let letters = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
        letters.map(u8::to_ascii_lowercase).collect::<Vec<_>>()
    };
    letters(name) == letters(field.as_bytes())
}

#[test]
fn a_mutated_transfer_encoding_is_exactly_chunked_or_another_field() {
    each_mutation("Transfer-Encoding: chunked", "", |line, read| {
        if let Ok((name, value, framing)) = read {
            let shown = line.escape_ascii();
            if name.eq_ignore_ascii_case(b"transfer-encoding") {
                assert!(value.eq_ignore_ascii_case(b"chunked") && framing == Framing::Chunked, "{shown}");
            } else {
                assert!(!spells(&name, "Transfer-Encoding") && framing == Framing::Empty, "{shown}");
            }
        }
    });
}

#[test]
fn a_mutated_content_length_is_digits_or_another_field() {
    each_mutation("Content-Length: 42", "", |line, read| {
        if let Ok((name, value, framing)) = read {
            let shown = line.escape_ascii();
            if name.eq_ignore_ascii_case(b"content-length") {
                let length: u64 = String::from_utf8(value.clone()).unwrap().parse().unwrap();
                assert!(value.iter().all(u8::is_ascii_digit) && framing == Framing::Length(length), "{shown}");
            } else {
                assert!(!spells(&name, "Content-Length") && framing == Framing::Empty, "{shown}");
            }
        }
    });
}

#[test]
fn no_mutation_of_a_coding_slips_in_beside_a_length() {
    each_mutation("Transfer-Encoding: chunked", "Content-Length: 42\r\n", |line, read| {
        if let Ok((name, _, framing)) = read {
            assert!(!spells(&name, "Transfer-Encoding"), "{}", line.escape_ascii());
            assert_eq!(framing, Framing::Length(42), "{}", line.escape_ascii());
        }
    });
}

#[test]
fn no_mutation_of_a_length_slips_in_beside_a_length() {
    each_mutation("Content-Length: 42", "Content-Length: 42\r\n", |line, read| {
        if let Ok((name, _, framing)) = read {
            assert!(!spells(&name, "Content-Length"), "{}", line.escape_ascii());
            assert_eq!(framing, Framing::Length(42), "{}", line.escape_ascii());
        }
    });
}
