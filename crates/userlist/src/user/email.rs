use std::{fmt, str::FromStr};

use discovery::FieldError;
use email_address::{EmailAddress as Parser, Error, Options};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::Serialize;

use super::text::{code_point, composed, folded, invisible};

/// An e-mail address as people write it: `local@domain`.
///
/// The forms of RFC 5321, section 4.1.2 that are in use: a dot-atom of at most 64 bytes, `@`, and a domain of labels
/// (letters, digits, inner hyphens, at most 63 bytes each), at most [`EmailAddress::MAX_BYTES`] in all; letters of other
/// scripts in both (RFC 6531). Quoted local parts (`"a b"@c`), comments, routes and address literals (`a@[10.0.0.1]`)
/// are refused: where they turn up today, they are somebody's attempt to reach a host that has no name.
///
/// Two crates decide: `email_address`, which is also what lettre's parser rests on, about the grammar, and `idna` about
/// domains of other scripts (UTS 46). What is left to this file is what they would let through.
///
/// It is kept as written. RFC 5321 section 2.4 leaves the meaning of upper and lower case on the left to the receiver;
/// [`EmailAddress::key`] is what two spellings of one address have in common. Whether anybody reads mail there is not
/// known until mail is sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EmailAddress(String);

// === impl EmailAddress ===

impl EmailAddress {
    /// The most bytes: a path of 256 (RFC 5321, section 4.5.3.1.3) without its angle brackets.
    pub const MAX_BYTES: usize = 254;

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same for all spellings of an address: `Jörg@BÜCHER.example` and `jörg@xn--bcher-kva.example`.
    ///
    /// Without the difference between upper and lower case, which no mail service in use makes on the left either, and
    /// with the domain in ASCII. Dots and `+tags` stay: only some services ignore them.
    #[must_use]
    pub fn key(&self) -> String {
        match self.0.rsplit_once('@') {
            Some((local, domain)) if !self.0.is_ascii() => {
                let domain = ascii_domain(domain).unwrap_or_else(|| folded(domain));
                format!("{}@{domain}", folded(local))
            }
            // Exactly what SQL's LOWER makes of ASCII: rows of older releases got their keys that way.
            _ => self.0.to_ascii_lowercase(),
        }
    }

    /// Takes an address that was written through this type before: out of the database.
    pub(crate) fn stored(email: String) -> Self {
        Self(email)
    }
}

impl FromStr for EmailAddress {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        if text.is_empty() {
            return Err(FieldError::new("email", "it is empty; write it like d@example.com"));
        }
        let address = composed(text);
        match check(&address) {
            Ok(()) => Ok(Self(address.into_owned())),
            Err(reason) => Err(FieldError::new("email", format!("{reason}; write it like d@example.com"))),
        }
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}

fn check(address: &str) -> Result<(), String> {
    if address.len() > EmailAddress::MAX_BYTES {
        return Err(format!("it has {} bytes, {} are allowed", address.len(), EmailAddress::MAX_BYTES));
    }
    if let Some(c) = invisible(address).or_else(|| address.chars().find(|c| c.is_whitespace())) {
        return Err(format!("it has the character {}, which cannot be seen", code_point(c)));
    }
    let Some((local, domain)) = address.rsplit_once('@') else { return Err("it has no '@'".to_owned()) };
    if local.starts_with('"') {
        return Err("what is before the '@' is in quotes".to_owned());
    }
    parse(&format!("{}@x", without_scripts(local)))?;
    check_domain(domain)
}

/// Every character of another script as as many letters as it has bytes.
///
/// RFC 6531, section 3.3 allows all of them before the '@'. The parser looks for the bytes of UTF-8 in code points, and
/// so refuses marks that are no letters, as in "संपर्क".
fn without_scripts(local: &str) -> String {
    local.chars().flat_map(|c| std::iter::repeat_n(if c.is_ascii() { c } else { 'x' }, c.len_utf8())).collect()
}

fn check_domain(domain: &str) -> Result<(), String> {
    // Other dots separate labels too, in software that maps them (RFC 3490, section 3.1), and not in the rest.
    if let Some(c) = domain.chars().find(|c| matches!(c, '。' | '．' | '｡')) {
        return Err(format!("the domain has {c:?}"));
    }
    if domain.is_ascii() {
        parse(&format!("x@{domain}"))?;
    }
    let Some(ascii) = ascii_domain(domain) else { return Err("the domain cannot be one".to_owned()) };
    parse(&format!("x@{ascii}"))?;
    // RFC 3696, section 2: the last label is never all digits, so that a domain is never an address.
    if ascii.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("the domain is a number".to_owned());
    }
    Ok(())
}

/// The domain as DNS has it; none when it cannot be looked up (RFC 5891, RFC 1035).
fn ascii_domain(domain: &str) -> Option<String> {
    let (std3, hyphens, length) = (AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify);
    Uts46::new().to_ascii(domain.as_bytes(), std3, hyphens, length).ok().map(Into::into)
}

/// What the parser says of an address in ASCII.
fn parse(address: &str) -> Result<(), String> {
    let options = Options::default().without_domain_literal().without_display_text().with_no_minimum_sub_domains();
    match Parser::parse_with_options(address, options) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(&error)),
    }
}

fn explain(error: &Error) -> String {
    match error {
        Error::MissingSeparator => "it has no '@'",
        Error::LocalPartEmpty => "there is nothing before the '@'",
        Error::LocalPartTooLong => "it has more than 64 bytes before the '@'",
        Error::DomainEmpty => "there is no domain after the '@'",
        Error::SubDomainEmpty | Error::DomainInvalidSeparator => {
            "the domain begins or ends with a dot, or has two in a row"
        }
        Error::DomainTooLong => "the domain is longer than 253 bytes",
        Error::SubDomainTooLong => "a part of the domain is longer than 63 bytes",
        Error::UnsupportedDomainLiteral | Error::InvalidIPAddress => "the domain is an address in brackets",
        Error::UnsupportedDisplayName | Error::MissingDisplayName | Error::MissingEndBracket => {
            "it is a name and an address"
        }
        Error::InvalidCharacter | Error::UnbalancedQuotes | Error::InvalidComment | Error::DomainTooFew => {
            "it has a character or a dot in a place where none is allowed"
        }
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<EmailAddress, FieldError> {
        text.parse()
    }

    #[test]
    fn addresses_in_use_are_kept_as_written() {
        let longest =
            format!("{}@{}.com", "x".repeat(64), format!("{}.", "y".repeat(61)).repeat(3).trim_end_matches('.'));
        assert_eq!(longest.len(), 254);
        for address in [
            "d@example.com",
            "D.Ong+list@Example.COM",
            "o'brien@example.com",
            "a@localhost",
            "a@1.example",
            "a@xn--bcher-kva.example",
            "jörg@bücher.example",
            "अजय@डाटा.भारत",
            "संपर्क@डाटामेल.भारत",
            "квіточка@пошта.укр",
            "Dörte@Sörensen.example.com",
            "二ノ宮@黒川.日本",
            &longest,
        ] {
            assert_eq!(parse(address).unwrap().as_str(), address);
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_wrong() {
        let too_long = format!("{}@{}.com", "x".repeat(64), "y.".repeat(95));
        for (address, hint) in [
            ("", "empty"),
            ("dong", "no '@'"),
            ("@example.com", "nothing before"),
            ("a@", "no domain"),
            ("a@b@c.d", "character or a dot"),
            (".a@b.c", "character or a dot"),
            ("a..b@c.d", "character or a dot"),
            ("a b@c.d", "U+0020"),
            (" a@c.d", "U+0020"),
            ("a@c.d ", "U+0020"),
            ("a\u{3000}b@c.d", "U+3000"),
            ("a@b..c", "two in a row"),
            ("a@b.c.", "ends with a dot"),
            ("a@-b.c", "character"),
            ("a@b_c.d", "cannot be one"),
            ("a@xn--a.example", "cannot be one"),
            ("\"a b\"@c.d", "U+0020"),
            ("\"a\"@c.d", "quotes"),
            ("a@[169.254.169.254]", "brackets"),
            ("a@10.0.0.1", "number"),
            ("a(x)@b.c", "character"),
            ("a@b.c\r\nBcc: x@y.z", "U+000D"),
            ("A <a@b.c>", "U+0020"),
            ("<a@b.c>", "character"),
            ("a,b@c.d", "character"),
            ("a@例え。テスト", "'。'"),
            (&format!("{}@b.c", "x".repeat(65)), "64 bytes before"),
            (&format!("{}@b.c", "é".repeat(33)), "64 bytes before"),
            (&format!("a@{}.c", "x".repeat(64)), "longer than 63"),
            (&too_long, "254 are allowed"),
        ] {
            let error = parse(address).unwrap_err();
            assert!(error.field == "email" && error.reason.contains(hint), "{address:?}: {error}");
        }
    }

    #[test]
    fn spellings_of_one_address_have_one_key() {
        for (a, b) in [
            ("D.Ong+list@Example.COM", "d.ong+list@example.com"),
            ("Jörg@BÜCHER.example", "JÖRG@xn--bcher-kva.example"),
            ("Jo\u{308}rg@b.example", "j\u{f6}rg@b.example"),
            ("a@FAß.example", "a@faß.example"),
        ] {
            assert_eq!(parse(a).unwrap().key(), parse(b).unwrap().key(), "{a} {b}");
        }
        for (a, b) in [("a.b@c.d", "ab@c.d"), ("a+b@c.d", "a@c.d"), ("jorg@c.d", "jörg@c.d")] {
            assert_ne!(parse(a).unwrap().key(), parse(b).unwrap().key(), "{a} {b}");
        }
    }

    #[test]
    fn an_address_does_not_reach_a_log_by_debug() {
        assert_eq!(format!("{:?}", parse("d@example.com").unwrap()), "EmailAddress(…)");
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_stable_and_safe_in_a_header(
            text in "[a-zA-Z0-9.+_@<>,;:\" äé。\r\n\\[\\]()-]{0,30}|(?s).{0,30}@.{0,30}|\\PC{0,300}"
        ) {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(&parse(address.as_str()).unwrap(), &address);
                let text = address.as_str();
                prop_assert!(text.len() <= EmailAddress::MAX_BYTES);
                prop_assert!(address.key().chars().count() <= 384, "it fits into its column");
                prop_assert_eq!(folded(&address.key()), address.key());
                prop_assert_eq!(text.matches('@').count(), 1);
                prop_assert!(!text.contains(|c: char| c.is_control() || c.is_whitespace() || "<>()[]\",;:\\".contains(c)));
            }
        }

        #[test]
        fn every_plain_address_is_accepted(text in "[a-z0-9]{1,20}([.+_-][a-z0-9]{1,10}){0,3}@([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\\.){1,3}[a-z]{2,6}") {
            prop_assert!(parse(&text).is_ok());
        }
    }
}
