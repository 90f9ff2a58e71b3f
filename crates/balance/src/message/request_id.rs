//! Request id and trace context on the data path.
//!
//! The rules are those of [`service_kit::request`]: an acceptable `x-request-id` is kept, any other is replaced, and the
//! answer carries it. `traceparent` passes as it is, because a gateway that records no span of its own must not become a
//! parent that no trace contains (W3C Trace Context, section 4.3); one that cannot be parsed is dropped with its `tracestate`.
//!
//! This is not `RequestContext` itself, because that asks the operating system for random numbers three times a request;
//! here a generator per thread makes the one id that is needed, without a system call.

use std::fmt;

use http1::{Fields, Name, One, write};
use rand::RngExt as _;
use service_kit::request::{is_acceptable, parse_traceparent};

const OWN_BYTES: usize = 32;

/// A request's id. One of our own is made without an allocation.
#[derive(Clone)]
pub(crate) enum RequestId {
    Own([u8; OWN_BYTES]),
    Given(Box<[u8]>),
}

// === impl RequestId ===

impl RequestId {
    /// 32 hexadecimal digits, random.
    pub(crate) fn new() -> Self {
        let mut bytes = [0; OWN_BYTES];
        let random = rand::rng().random::<u128>().to_be_bytes();
        for (pair, byte) in bytes.chunks_exact_mut(2).zip(random) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        Self::Own(bytes)
    }

    /// The client's, if it is there once and acceptable; a new one otherwise.
    pub(crate) fn settle(fields: &Fields<'_>) -> Self {
        match fields.get(Name::XRequestId) {
            One::One(given) if is_acceptable(given) => Self::Given(given.into()),
            _ => Self::new(),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(digits) => digits,
            Self::Given(id) => id,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Writes the trace that a request came with, if it can be parsed.
pub(crate) fn write_trace(out: &mut Vec<u8>, fields: &Fields<'_>) {
    let One::One(parent) = fields.get(Name::Traceparent) else { return };
    if std::str::from_utf8(parent).ok().and_then(parse_traceparent).is_none() {
        return;
    }
    write::field(out, b"traceparent", parent);
    for state in fields.iter().filter(|field| field.id == Name::Tracestate) {
        write::field(out, b"tracestate", state.value);
    }
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scan, parse_request};

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn settled(lines: &str) -> (String, String) {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut scan = Scan::default();
        let request = parse_request(head.as_bytes(), &mut scan, &Limits::default()).unwrap();
        let mut trace = Vec::new();
        write_trace(&mut trace, &request.fields);
        (RequestId::settle(&request.fields).as_str().to_owned(), String::from_utf8(trace).unwrap())
    }

    #[test]
    fn an_acceptable_id_is_kept_and_any_other_is_replaced() {
        assert_eq!(settled("x-request-id: abc-1\r\n").0, "abc-1");
        for bad in ["", "a b", "a\"b", "<script>", &"x".repeat(129)] {
            let (id, _) = settled(&format!("X-Request-Id: {bad}\r\n"));
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{bad}");
        }
        assert_eq!(settled("x-request-id: a\r\nx-request-id: b\r\n").0.len(), 32);
        assert_eq!(settled(&format!("x-request-id: {}\r\n", "x".repeat(128))).0.len(), 128);
    }

    #[test]
    fn a_good_trace_passes_unchanged() {
        let (_, trace) = settled(&format!("traceparent: {GOOD}\r\ntracestate: a=b\r\n"));
        assert_eq!(trace, format!("traceparent: {GOOD}\r\ntracestate: a=b\r\n"));
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
            let (_, trace) = settled(&format!("traceparent: {bad}\r\ntracestate: a=b\r\n"));
            assert_eq!(trace, "", "{bad}");
        }
        assert_eq!(settled(&format!("traceparent: {GOOD}\r\ntraceparent: {GOOD}\r\n")).1, "");
    }
}
