//! What `Connection` says (RFC 9110, section 7.6.1).

use crate::{
    bytes::{is_ows, is_same_token, is_token},
    name::Name,
    refusal::Refusal,
};

/// Most bytes of all `Connection` lines together. Every line of a head is compared with the options, and a head may
/// have many of both; real ones have some dozen bytes.
const MAX_BYTES: usize = 1024;

/// The options of all `Connection` lines together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Whether there is an option beside these three, so that fields have to be compared with it.
    pub(crate) names_others: bool,
}

impl Options {
    /// # Errors
    ///
    /// [`Refusal::Malformed`] if an option is no token, or the name of a field that must reach the other side: a parser
    /// behind us would miss it; or if there are more than 1,024 bytes.
    pub(crate) fn parse<'a>(values: impl Iterator<Item = &'a [u8]> + Clone) -> Result<Self, Refusal> {
        if values.clone().map(<[u8]>::len).sum::<usize>() > MAX_BYTES {
            return Err(Refusal::Malformed("Connection: it must not have more than 1024 bytes"));
        }
        let mut options = Self::default();
        for option in values.flat_map(Self::split) {
            options.add(option)?;
        }
        Ok(options)
    }

    /// The options of one line. Empty ones are skipped, as RFC 9110, section 5.6.1.2, wants it.
    pub(crate) fn split(value: &[u8]) -> impl Iterator<Item = &[u8]> {
        value.split(|byte| *byte == b',').map(trim).filter(|option| !option.is_empty())
    }

    /// Whether one of the three usual options is `name`.
    pub(crate) fn names_usual(self, name: &[u8]) -> bool {
        (self.keep_alive && name.eq_ignore_ascii_case(b"keep-alive"))
            || (self.upgrade && name.eq_ignore_ascii_case(b"upgrade"))
            || (self.close && name.eq_ignore_ascii_case(b"close"))
    }

    fn add(&mut self, option: &[u8]) -> Result<(), Refusal> {
        if !is_token(option) {
            return Err(Refusal::Malformed("Connection: it must be a list of names with commas between them"));
        }
        if is_same_token(option, b"keep-alive") {
            self.keep_alive = true;
        } else if is_same_token(option, b"close") {
            self.close = true;
        } else if is_same_token(option, b"upgrade") {
            self.upgrade = true;
        } else if Name::of(option).must_not_end_here() {
            return Err(Refusal::Malformed(
                "Connection: it must not name a field that is meant for the other side, like Host or Content-Length",
            ));
        } else {
            self.names_others = true;
        }
        Ok(())
    }
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_ows(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_ows(*last)
    {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Options, Refusal> {
        Options::parse(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn options_add_up_over_lines_and_cases() {
        let options = parse(&["Keep-Alive ,\tUPGRADE", ",", "x-a"]).unwrap();
        assert_eq!(options, Options { close: false, keep_alive: true, upgrade: true, names_others: true });
        assert_eq!(parse(&[""]), Ok(Options::default()));
    }

    #[test]
    fn a_field_for_the_other_side_does_not_end_here() {
        for name in ["Host", "content-length", "Transfer-Encoding", "via", "X-Forwarded-For", "x_real_ip", "Cookie"] {
            assert!(parse(&["close", name]).is_err(), "{name}");
        }
        for name in ["TE", "Trailer", "HTTP2-Settings", "X-A", "Keep-Alive", "Proxy-Connection"] {
            assert!(parse(&["close", name]).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_every_line_is_compared_with_is_bounded() {
        let half = format!("x{}", ",".repeat(MAX_BYTES / 2 - 1));
        assert!(parse(&[&half, &half]).unwrap().names_others);
        assert!(parse(&[&half, &half, "y"]).is_err());
    }

    #[test]
    fn an_option_is_a_token() {
        assert!(parse(&["close x"]).is_err());
        assert!(parse(&["\"close\""]).is_err());
        assert!(parse(&["clos\u{e9}"]).is_err());
    }
}
