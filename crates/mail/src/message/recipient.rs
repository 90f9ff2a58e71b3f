//! Whom a message goes to: exactly one mailbox, `local@domain`, that cannot be read as anything else.
//!
//! What an address is, [`service_kit::email`] says, for all services: no address literals and nothing else that reads
//! as an IP address, no quoted local parts. Of these, any SMTP server must be able to take it: an internationalised
//! domain is sent in its ASCII form, `bücher.example` as `xn--bcher-kva.example`; a local part outside ASCII needs
//! SMTPUTF8 (RFC 6531) at every hop, and much of the world lacks it.

use discovery::FieldError;
use lettre::Address;
use service_kit::email::{EmailAddress, InvalidEmail};

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

/// The address as any SMTP server takes it; else what to change, without the address.
pub(crate) fn check(text: &str) -> Result<Address, String> {
    let email: EmailAddress = text.parse().map_err(|error: InvalidEmail| error.to_string())?;
    if email.needs_smtputf8() {
        return Err(
            "what is before the '@' is not ASCII, and not every server takes that; write it with ASCII letters"
                .to_owned(),
        );
    }
    Address::new(email.local(), email.ascii_domain())
        .map_err(|_| "it is not a mail address; write it like d@example.com".to_owned())
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
            "a@b_c.d",
            "b@1.2.3.4.",
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
