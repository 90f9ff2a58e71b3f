//! Request id and trace context on the data path.
//!
//! The rules are those of [`service_kit::request`]: an acceptable `x-request-id` is kept, any other is replaced, and the
//! answer carries it. `traceparent` passes as it is, because a gateway that records no span of its own must not become a
//! parent that nobody finds (W3C Trace Context, section 4.3); one that cannot be parsed is dropped with its `tracestate`.
//!
//! This is not `RequestContext` itself, because that asks the operating system for random numbers three times a request;
//! here a generator per thread makes the one id that is needed, without a system call.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt as _;
use service_kit::request::{REQUEST_ID, TRACEPARENT, is_acceptable, parse_traceparent};

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Settles the ids in a request's header and returns the request id.
pub(crate) fn settle(headers: &mut HeaderMap) -> HeaderValue {
    if headers.contains_key(TRACEPARENT) && !has_one_good_traceparent(headers) {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
    let mut given = headers.get_all(REQUEST_ID).iter();
    match (given.next(), given.next()) {
        (Some(id), None) if is_acceptable(id.as_bytes()) => id.clone(),
        _ => {
            let id = new_id();
            headers.insert(REQUEST_ID, id.clone());
            id
        }
    }
}

/// 32 hexadecimal digits that nobody else has.
pub(crate) fn new_id() -> HeaderValue {
    let random = rand::rng().random::<u128>().to_be_bytes();
    let digits = random
        .into_iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| b"0123456789abcdef"[usize::from(nibble)]);
    let id: Vec<u8> = digits.collect();
    HeaderValue::from_maybe_shared(Bytes::from(id)).expect("hexadecimal digits are visible ASCII")
}

fn has_one_good_traceparent(headers: &HeaderMap) -> bool {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return false };
    value.to_str().is_ok_and(|value| parse_traceparent(value).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn settled(fields: &[(&'static str, &str)]) -> (String, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let id = settle(&mut headers);
        (id.to_str().unwrap().to_owned(), headers)
    }

    #[test]
    fn an_acceptable_id_is_kept_and_any_other_is_replaced() {
        assert_eq!(settled(&[("x-request-id", "abc-1")]).0, "abc-1");
        for bad in ["", "a b", "a\"b", "<script>", &"x".repeat(129)] {
            let (id, headers) = settled(&[("x-request-id", bad)]);
            assert!(id.len() == 32 && headers["x-request-id"] == id, "{bad}");
        }
        let (id, headers) = settled(&[("x-request-id", "a"), ("x-request-id", "b")]);
        assert_eq!(headers.get_all("x-request-id").iter().collect::<Vec<_>>(), [&id]);
    }

    #[test]
    fn a_good_trace_passes_unchanged() {
        let (_, headers) = settled(&[("traceparent", GOOD), ("tracestate", "a=b")]);
        assert_eq!((headers["traceparent"].to_str().unwrap(), headers.contains_key("tracestate")), (GOOD, true));
    }

    #[test]
    fn a_broken_trace_is_dropped() {
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            let (_, headers) = settled(&[("traceparent", bad), ("tracestate", "a=b")]);
            assert!(!headers.contains_key("traceparent") && !headers.contains_key("tracestate"), "{bad}");
        }
        assert!(!settled(&[("traceparent", GOOD), ("traceparent", GOOD)]).1.contains_key("traceparent"));
    }
}
