//! What holds for every message, and for what is nearly one.

use http1::{BodyDecoder, Framing, Limits, Scan};
use proptest::prelude::*;

use crate::{any, checks, read};

proptest! {
    #[test]
    fn every_valid_request_is_read_with_its_body_and_its_end(message in any::request(), next in "[A-Z ]{0,5}") {
        let bytes = [message.bytes(), next.clone().into_bytes()].concat();
        prop_assert_eq!(Scan::default().read(&bytes, &Limits::default()), Some(message.head.len()));
        let seen = checks::request(&bytes).unwrap();
        prop_assert!(seen.is_ok(), "{:?}", seen);
        let mut decoder = BodyDecoder::new(seen.unwrap().framing);
        let content = read::content(&mut decoder, &bytes[message.head.len()..]);
        prop_assert_eq!(content, Ok(Some((message.content, next.as_bytes()))));
    }

    #[test]
    fn a_chunked_body_is_the_same_however_it_is_split((body, content) in any::chunked(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let mut seen = Vec::new();
        for cut in cuts.windows(2) {
            let mut arrived = &body[cut[0]..cut[1]];
            while !arrived.is_empty() {
                let piece = decoder.decode(arrived).unwrap();
                seen.extend_from_slice(&arrived[piece.data]);
                arrived = &arrived[piece.consumed..];
            }
        }
        prop_assert!(decoder.is_at_end());
        prop_assert_eq!(seen, content);
    }

    #[test]
    fn nearly_valid_requests_hold_every_check(bytes in any::nearly(any::request().prop_map(|message| message.bytes()))) {
        let _ = checks::request(&bytes);
    }

    #[test]
    fn nearly_valid_responses_hold_every_check(
        start in "[HC]?HTTP/1.[01] [1-5][0-9]{2}( [a-zA-Z ]{0,9})?", fields in prop::collection::vec(any::field(), 0..5),
        framing in "((Content-Length: [0-9]|Transfer-Encoding: chunked|Connection: (close|keep-alive))\r\n){0,2}", damage in any::<bool>(),
        changed in any::nearly(Just(Vec::new())), at in any::<prop::sample::Index>(),
    ) {
        let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let mut bytes = format!("{start}\r\n{lines}{framing}\r\n").into_bytes();
        if damage {
            let at = at.index(bytes.len());
            bytes.splice(at..at, changed);
        }
        let _ = checks::response(&bytes);
    }

    #[test]
    fn nearly_valid_bodies_hold_every_check(
        kind in "[clu]", seed in any::<u8>(), body in any::nearly(any::chunked().prop_map(|(body, _)| body)),
    ) {
        let _ = checks::body(&[kind.as_bytes(), &[seed], &body].concat());
    }

    #[test]
    fn no_input_at_all_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (checks::request(&bytes), checks::response(&bytes), checks::body(&bytes));
    }
}
