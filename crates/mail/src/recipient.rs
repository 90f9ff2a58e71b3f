//! Whom a message goes to: exactly one mailbox, `local@domain`, that cannot be read as anything else.
//!
//! lettre's parser decides what an address is; on top of it, refused with a reason, is what the grammar of RFC 5321
//! allows but no recipient of this service needs, and what others have used to reach what they should not:
//!
//! - address literals and everything that reads as an IP address (`b@[169.254.169.254]`, `b@1.1.1.1`, `b@0x7f.1`);
//! - quoted local parts (`"a b"@c.d`), which can hold spaces, commas and second at signs;
//! - local parts outside ASCII: they need SMTPUTF8 (RFC 6531) at every hop, and much of the world lacks it.
//!
//! An internationalised domain is fine: it is sent in its ASCII form, `bücher.example` as `xn--bcher-kva.example`.

use discovery::FieldError;
use lettre::Address;
use url::Host;

/// The longest address in bytes: 256 for a path with its angle brackets (RFC 5321, section 4.5.3.1.3).
pub const ADDRESS_MAX_BYTES: usize = 254;

/// A checked recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(Address);

impl Recipient {
    /// Checks the field `address` of a request.
    ///
    /// # Errors
    /// Says what to change. The address itself is not in the reason, so that it may be logged.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        check(text).map(Self).map_err(|reason| FieldError::new("address", reason))
    }

    /// The address as lettre knows it, ASCII only.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0
    }
}

/// An address must not get into a log through `{:?}`.
impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Recipient(…)")
    }
}

/// The checks, in the order in which their reasons help most.
pub(crate) fn check(text: &str) -> Result<Address, &'static str> {
    if text.is_empty() {
        return Err("it is empty; write an address such as somebody@example.com");
    }
    if text.len() > 2 * ADDRESS_MAX_BYTES {
        return Err("it is longer than 254 bytes, the most that SMTP carries");
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("it holds a space, a line break or another control character; take it out");
    }
    let Some((local, domain)) = text.rsplit_once('@') else {
        return Err("it has no @; write an address such as somebody@example.com");
    };
    if local.starts_with('"') {
        return Err("the part before the @ is quoted; only unquoted ones are sent to");
    }
    if !local.is_ascii() {
        return Err("the part before the @ is not ASCII; write it with ASCII letters");
    }
    let address = Address::new(local, ascii_domain(domain)?)
        .map_err(|_| "it is not a mail address; write one such as somebody@example.com")?;
    if AsRef::<str>::as_ref(&address).len() > ADDRESS_MAX_BYTES {
        return Err("it is longer than 254 bytes, the most that SMTP carries");
    }
    Ok(address)
}

/// The domain in ASCII. The URL standard's host parser finds every spelling of an IP address, as browsers and many
/// resolvers read them, which a look at the text would not.
fn ascii_domain(domain: &str) -> Result<String, &'static str> {
    if domain.contains('%') {
        return Err("the part after the @ is not a domain name");
    }
    match Host::parse(domain) {
        Ok(Host::Domain(name)) => Ok(name),
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) => Err("the part after the @ is an IP address; write a domain name"),
        Err(_) if domain.starts_with('[') => Err("the part after the @ is an IP address; write a domain name"),
        Err(_) => Err("the part after the @ is not a domain name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_addresses_are_taken_as_they_are() {
        for text in ["a@b.c", "first.last+tag@mail.example.com", "root@localhost", "o'neil/x=y@example.com", "1@2.de"] {
            assert_eq!(Recipient::parse(text).map(|to| to.address().to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn an_internationalised_domain_is_sent_in_ascii() {
        let sent = |text| Recipient::parse(text).map(|to| to.address().to_string());
        assert_eq!(sent("a@bücher.example"), Ok("a@xn--bcher-kva.example".to_owned()));
        assert_eq!(sent("a@例え.テスト"), Ok("a@xn--r8jz45g.xn--zckzah".to_owned()));
    }

    #[test]
    fn what_reads_as_an_ip_address_is_refused() {
        for text in [
            "b@[169.254.169.254]",
            "b@[IPv6:::1]",
            "b@[::1]",
            "b@1.1.1.1",
            "b@127.1",
            "b@0x7f000001",
            "b@2130706433",
            "b@０x7f.1",
            "b@1.2.3.4.",
        ] {
            let reason = Recipient::parse(text).unwrap_err().reason;
            assert!(reason.contains("IP address"), "{text}: {reason}");
        }
    }

    #[test]
    fn what_is_not_one_plain_address_is_refused_under_its_field() {
        let long_local = format!("{}@b.c", "a".repeat(65));
        let long_domain = format!("a@{}.example", "b.".repeat(130).trim_end_matches('.'));
        let huge = "a".repeat(100_000);
        for text in [
            "",
            "a",
            "@",
            "a@",
            "@b.c",
            "a@@b.c",
            "a@b@c.d",
            "a@b.c,d@e.f",
            "a@b.c;d@e.f",
            "A <a@b.c>",
            "<a@b.c>",
            "a@b.c>",
            "a@b.c> SIZE=1",
            " a@b.c",
            "a@b.c ",
            "a\u{a0}b@c.d",
            "a@b.c\r\nRCPT TO:<d@e.f>",
            "a@b.c\nBcc: d@e.f",
            "a\r@b.c",
            "a@b.c\0",
            "\"a b\"@c.d",
            "\"a@b.c\"@d.e",
            "ä@b.c",
            ".a@b.c",
            "a..b@c.d",
            "a.@b.c",
            "a@b..c",
            "a@.b.c",
            "a@-b.c",
            "a@b_c.d e",
            "a@b%2ec",
            "a@b.c/d",
            "a@b:25",
            "(comment)a@b.c",
            "a@b.c(comment)",
            "postmaster",
            &long_local,
            &long_domain,
            &huge,
        ] {
            let error = Recipient::parse(text).expect_err(text);
            assert_eq!(error.field, "address", "{text}");
            assert!(text.len() < 5 || !error.reason.contains(text), "the reason must not repeat the address: {error}");
        }
    }
}
