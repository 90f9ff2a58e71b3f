//! What a request said to its instance about its way, which the answer may refer to.
//!
//! Read again from the head that was sent to it, only for a response that refers to a path ([`crate::message::prefix`]);
//! nothing is kept of it before.

use http1::write;

/// What a request said to its instance about its way, as far as the answer may refer to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forwarded<'a> {
    /// `X-Forwarded-Prefix`.
    pub(crate) prefix: &'a [u8],
    /// `Host`.
    pub(crate) host: &'a [u8],
    /// The first of `X-Forwarded-Host`.
    pub(crate) forwarded_host: &'a [u8],
}

// === impl Forwarded ===

impl<'a> Forwarded<'a> {
    /// Reads it from a request's head that we have written ourselves; what follows the head is not looked at.
    pub(crate) fn read(head: &'a [u8]) -> Self {
        let mut forwarded = Self::default();
        let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"host") {
                forwarded.host = value;
            } else if name.eq_ignore_ascii_case(b"x-forwarded-host") {
                forwarded.forwarded_host = value.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
            } else if name.eq_ignore_ascii_case(b"x-forwarded-prefix") {
                forwarded.prefix = value;
            }
        }
        forwarded
    }

    /// As lines to be [read](Self::read) again.
    pub(crate) fn to_lines(self) -> Box<[u8]> {
        let mut lines = Vec::new();
        write::field(&mut lines, b"Host", self.host);
        write::field(&mut lines, b"X-Forwarded-Host", self.forwarded_host);
        write::field(&mut lines, b"X-Forwarded-Prefix", self.prefix);
        lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_request_said_is_read_from_its_head_and_kept() {
        let head =
            b"GET /a:b HTTP/1.1\r\nHost: a:1\r\nx-forwarded-host: b, c\r\nX-Forwarded-Prefix: /mail\r\n\r\nHost: d\r\n";
        let forwarded = Forwarded::read(head);
        assert_eq!(
            (forwarded.host, forwarded.forwarded_host, forwarded.prefix),
            (&b"a:1"[..], &b"b"[..], &b"/mail"[..])
        );
        assert_eq!(Forwarded::read(&forwarded.to_lines()), forwarded);
    }
}
