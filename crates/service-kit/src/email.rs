//! What an e-mail address is, once for all services: who takes one, keeps one, compares two or sends to one asks here.
//!
//! The forms of RFC 5321, section 4.1.2 that are in use: a dot-atom, `@`, and a domain of labels (letters, digits,
//! inner hyphens); letters of other scripts in both (RFC 6531, RFC 5890). Quoted local parts (`"a b"@c`), comments,
//! routes and everything that reads as an IP address (`a@[10.0.0.1]`, `a@127.1`, `a@0x7f.1`) are refused: where they
//! turn up today, they are attempts to reach a host that has no name.
//!
//! One address has several spellings, and each has its use:
//!
//! | spelling | of `Jörg@BÜCHER.example` | of `D@Bücher.example` | for |
//! |---|---|---|---|
//! | [`EmailAddress::as_str`] | the same | the same | showing: what its owner wrote |
//! | [`EmailAddress::key`] | `jörg@xn--bcher-kva.example` | `d@xn--bcher-kva.example` | comparing and looking up: equal for all spellings |
//! | [`EmailAddress::to_unicode`] | `Jörg@bücher.example` | `D@bücher.example` | searching, beside the key |
//! | [`EmailAddress::to_ascii`] | none: needs SMTPUTF8 | `D@xn--bcher-kva.example` | SMTP servers of any kind |
//!
//! Bounds, in bytes: 64 before the `@` (RFC 5321, section 4.5.3.1.1), 253 after it (RFC 1035, section 2.3.4, without
//! the root), 254 in all ([`EmailAddress::MAX_BYTES`]), as it is written and as it is sent.
//!
//! Two crates decide: `email_address`, which is also what lettre's parser rests on, about the grammar, and `idna` about
//! domains of other scripts (UTS 46). What is left to this module is what they would let through.

mod check;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::text::{composed, lower_cased};

/// An address that passed the checks, in the spelling in which it was written (Normalization Form C).
///
/// `Debug` does not show it, so that none reaches a log by accident. Whether mail is read there is not known until
/// mail is sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EmailAddress(String);

/// What is wrong with a text that is no address, and what to write; the text is not in it, so that it may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write it like d@example.com")]
pub struct InvalidEmail(String);

// === impl EmailAddress ===

impl EmailAddress {
    /// The most bytes: a path of 256 (RFC 5321, section 4.5.3.1.3) without its angle brackets.
    pub const MAX_BYTES: usize = 254;

    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        self.parts().0
    }

    /// The domain, as it was written.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.parts().1
    }

    /// The domain as DNS has it, in lower case (A-labels, RFC 5890): `xn--bcher-kva.example`.
    #[must_use]
    pub fn ascii_domain(&self) -> String {
        check::ascii_domain(self.domain()).unwrap_or_else(|| lower_cased(self.domain()))
    }

    /// The address with its domain as people read it, in lower case (U-labels, RFC 5890), whichever was written.
    #[must_use]
    pub fn to_unicode(&self) -> String {
        format!("{}@{}", self.local(), check::unicode_domain(self.domain()))
    }

    /// The address for any SMTP server: its domain in A-labels. None where that is not enough, see
    /// [`EmailAddress::needs_smtputf8`].
    #[must_use]
    pub fn to_ascii(&self) -> Option<String> {
        (!self.needs_smtputf8()).then(|| format!("{}@{}", self.local(), self.ascii_domain()))
    }

    /// Whether every server on the way must speak SMTPUTF8 (RFC 6531): a domain of another script has a form in ASCII,
    /// what is before the `@` has none.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local().is_ascii()
    }

    /// The same for all spellings of an address: `Jörg@BÜCHER.example` and `jörg@xn--bcher-kva.example`.
    ///
    /// Without the difference between upper and lower case, which no mail service in use makes on the left either (RFC
    /// 5321, section 2.4 leaves it to the receiver), and with the domain in ASCII. Dots and `+tags` stay: only some
    /// services ignore them. It is kept in databases, and so does not change from release to release.
    #[must_use]
    pub fn key(&self) -> String {
        // Of ASCII exactly what SQL's LOWER makes: rows of older releases got their keys that way.
        if self.0.is_ascii() {
            return self.0.to_ascii_lowercase();
        }
        format!("{}@{}", lower_cased(self.local()), self.ascii_domain())
    }

    /// Takes an address that was checked before it was written: out of a database of ours.
    #[must_use]
    pub fn stored(email: String) -> Self {
        Self(email)
    }

    fn parts(&self) -> (&str, &str) {
        self.0.rsplit_once('@').unwrap_or((&self.0, ""))
    }
}

impl FromStr for EmailAddress {
    type Err = InvalidEmail;

    /// Exactly one address, nothing around it: no name, no angle brackets, no white space.
    fn from_str(text: &str) -> Result<Self, InvalidEmail> {
        let address = composed(text);
        check::check(&address).map_err(InvalidEmail)?;
        Ok(Self(address.into_owned()))
    }
}

impl PartialSchema for EmailAddress {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(Self::MAX_BYTES));
        text.description(Some("Kept as written; international")).into()
    }
}

impl ToSchema for EmailAddress {}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}
