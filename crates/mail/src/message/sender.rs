//! Whom messages come from.

use std::str::FromStr;

use lettre::{Address, message::Mailbox};

use super::recipient;

/// The configured sender: `muster@example.com` or `Muster <muster@example.com>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(Mailbox);

impl Sender {
    /// A sender that has been checked otherwise.
    pub(crate) fn from_mailbox(mailbox: Mailbox) -> Self {
        Self(mailbox)
    }

    /// Name and address, for the `From` header.
    #[must_use]
    pub fn mailbox(&self) -> &Mailbox {
        &self.0
    }

    /// The address, for `MAIL FROM`.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.email
    }

    /// The domain, which our Message-IDs are made under.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.email.domain()
    }
}

impl FromStr for Sender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write for example \"muster@example.com\" or \"Muster <muster@example.com>\"";
        // lettre panics when a name with a line break is written.
        if text.chars().any(char::is_control) {
            return Err(format!("it holds a control character; {EXAMPLE}"));
        }
        let parsed = Mailbox::from_str(text.trim()).map_err(|error| format!("{error}; {EXAMPLE}"))?;
        let address = recipient::check(parsed.email.as_ref()).map_err(|reason| format!("{reason}; {EXAMPLE}"))?;
        Ok(Self(Mailbox::new(parsed.name, address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_or_without_a_name_is_a_sender() {
        let sender: Sender = "Müster & Co <muster@example.com>".parse().unwrap();
        assert_eq!((sender.domain(), sender.mailbox().name.as_deref()), ("example.com", Some("Müster & Co")));
        assert_eq!("muster@localhost".parse::<Sender>().unwrap().domain(), "localhost");
    }

    #[test]
    fn a_mistake_says_what_to_write() {
        for bad in ["", "muster", "muster@", "a@b.c, d@e.f", "A\r\nBcc: b@c.d <a@b.c>", "b@[127.0.0.1]"] {
            let reason = bad.parse::<Sender>().unwrap_err();
            assert!(reason.contains("write for example"), "{bad:?}: {reason}");
        }
    }
}
