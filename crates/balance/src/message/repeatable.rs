//! What a request's head says about carrying it out twice.

use http1::{Fields, Method, Name, One};

/// What a request's head says about carrying it out twice. Whether a second attempt may run beside a living one is the
/// same question: only when it is [safe](Self::Safely).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeatable {
    /// It only reads (RFC 9110, section 9.2.1), so twice is as good as once.
    Safely,
    /// Twice in a row has the effect of once (RFC 9110, section 9.2.2), and no precondition makes the second fail because
    /// the first was carried out.
    AfterFailure,
    /// It carries one `Idempotency-Key` and no precondition: as [`AfterFailure`](Self::AfterFailure) where keys are honoured.
    ByKey,
    /// Twice is not once.
    Never,
}

// === impl Repeatable ===

impl Repeatable {
    pub(crate) fn of(method: &Method<'_>, fields: &Fields<'_>) -> Self {
        match method {
            Method::Get | Method::Head | Method::Options => Self::Safely,
            _ if !method.is_idempotent() && !has_one_key(fields) => Self::Never,
            _ if has_precondition(fields) => Self::Never,
            _ if method.is_idempotent() => Self::AfterFailure,
            _ => Self::ByKey,
        }
    }

    /// Whether the method itself says that a repetition does no harm, in one order of events or another.
    pub(crate) fn is_by_method(self) -> bool {
        matches!(self, Self::Safely | Self::AfterFailure)
    }
}

/// Exactly one, and not empty: with several, nothing says which one the service goes by.
fn has_one_key(fields: &Fields<'_>) -> bool {
    matches!(fields.get(Name::IdempotencyKey), One::One(key) if !key.is_empty())
}

/// Whether the request is to be carried out only in a certain state of its resource. All such fields begin alike: `If-Match`,
/// `If-None-Match`, `If-Unmodified-Since` (RFC 9110, section 13.1), `If` (RFC 4918), `If-Schedule-Tag-Match` (RFC 6638).
fn has_precondition(fields: &Fields<'_>) -> bool {
    let is_conditional = |name: &[u8]| {
        name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"if")) && matches!(name.get(2), None | Some(b'-'))
    };
    fields.iter().any(|field| is_conditional(field.name))
}

#[cfg(test)]
mod tests {
    use http1::{Limits, Scan, parse_request};

    use super::*;

    fn repeatable(method: &str, lines: &str) -> Repeatable {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut scan = Scan::default();
        let request = parse_request(head.as_bytes(), &mut scan, &Limits::default()).unwrap();
        Repeatable::of(&request.method, &request.fields)
    }

    #[test]
    fn a_precondition_is_met_once() {
        let lines =
            ["If-Match: \"1\"", "if-none-match: *", "If-Unmodified-Since: x", "If: (<l>)", "IF-Schedule-Tag-Match: x"];
        for line in lines {
            for method in ["PUT", "DELETE", "POST"] {
                let lines = format!("{line}\r\nIdempotency-Key: k\r\n");
                assert_eq!(repeatable(method, &lines), Repeatable::Never, "{method} {line}");
            }
            assert_eq!(repeatable("GET", &format!("{line}\r\n")), Repeatable::Safely, "reading twice does no harm");
        }
        for line in ["Iffy: x", "I: x", "Interface: x"] {
            assert_eq!(repeatable("PUT", &format!("{line}\r\n")), Repeatable::AfterFailure, "{line}");
        }
    }

    #[test]
    fn an_idempotency_key_asks_for_the_promise_of_the_service() {
        assert_eq!(repeatable("POST", "Idempotency-Key: k\r\n"), Repeatable::ByKey);
        assert_eq!(repeatable("PUT", "Idempotency-Key: k\r\n"), Repeatable::AfterFailure);
        for lines in ["Idempotency-Key: \r\n", "Idempotency-Key: k\r\nIdempotency-Key: l\r\n"] {
            assert_eq!(repeatable("POST", lines), Repeatable::Never, "{lines}");
        }
    }
}
