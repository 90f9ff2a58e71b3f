use std::{fmt, str::FromStr};

use discovery::FieldError;
use serde::Serialize;

use super::text::{code_point, composed, invisible};

/// An e-mail address as people write it: `local@domain`.
///
/// The forms of RFC 5321, section 4.1.2 that are in use: a dot-atom of at most 64 bytes, `@`, and a domain of labels
/// (letters, digits, inner hyphens, at most 63 bytes each), at most [`EmailAddress::MAX_BYTES`] in all; letters of other
/// scripts in both (RFC 6531). Quoted local parts (`"a b"@c`), comments, routes and address literals (`a@[10.0.0.1]`)
/// are refused: where they turn up today, they are somebody's attempt to reach a host that has no name.
///
/// It is kept as written. RFC 5321 section 2.4 leaves the meaning of upper and lower case on the left to the receiver.
/// Whether anybody reads mail there is not known until mail is sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EmailAddress(String);

// === impl EmailAddress ===

impl EmailAddress {
    /// The most bytes: a path of 256 (RFC 5321, section 4.5.3.1.3) without its angle brackets.
    pub const MAX_BYTES: usize = 254;
    const LOCAL_MAX_BYTES: usize = 64;
    const LABEL_MAX_BYTES: usize = 63;

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes an address that was written through this type before: out of the database.
    pub(crate) fn stored(email: String) -> Self {
        Self(email)
    }
}

impl FromStr for EmailAddress {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
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
    if address.is_empty() {
        return Err("it is empty".to_owned());
    }
    if address.len() > EmailAddress::MAX_BYTES {
        return Err(format!("it has {} bytes, {} are allowed", address.len(), EmailAddress::MAX_BYTES));
    }
    if let Some(c) = invisible(address) {
        return Err(format!("it has the character {}, which cannot be seen", code_point(c)));
    }
    let Some((local, domain)) = address.rsplit_once('@') else { return Err("it has no '@'".to_owned()) };
    check_local(local)?;
    check_domain(domain)
}

fn check_local(local: &str) -> Result<(), String> {
    if local.len() > EmailAddress::LOCAL_MAX_BYTES {
        return Err(format!("it has {} bytes before the '@', 64 are allowed", local.len()));
    }
    if let Some(c) = local.chars().find(|&c| !is_atext(c) && c != '.') {
        return Err(format!("it has {c:?} before the '@'"));
    }
    if local.split('.').any(str::is_empty) {
        return Err("what is before the '@' is empty, begins or ends with a dot, or has two in a row".to_owned());
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<(), String> {
    let labels = || domain.split('.');
    if labels().any(str::is_empty) {
        return Err("the domain is empty, begins or ends with a dot, or has two in a row".to_owned());
    }
    if let Some(c) = domain.chars().find(|&c| !is_domain_char(c) && c != '.') {
        return Err(format!("the domain has {c:?}"));
    }
    if labels().any(|label| label.len() > EmailAddress::LABEL_MAX_BYTES) {
        return Err("a part of the domain is longer than 63 bytes".to_owned());
    }
    if labels().any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err("a part of the domain begins or ends with '-'".to_owned());
    }
    // RFC 3696, section 2: the last label is never all digits, so that a domain is never an address.
    if labels().next_back().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("the domain is a number".to_owned());
    }
    Ok(())
}

/// `atext` of RFC 5322, section 3.2.3, and the rest of Unicode (RFC 6531, section 3.3).
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_other_script(c)
}

fn is_domain_char(c: char) -> bool {
    // The ideographic and full-width dots separate labels too, in software that maps them (RFC 3490, section 3.1).
    c.is_ascii_alphanumeric() || c == '-' || is_other_script(c) && !matches!(c, '。' | '．' | '｡')
}

fn is_other_script(c: char) -> bool {
    !c.is_ascii() && !c.is_whitespace()
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
            ("@example.com", "before the '@' is empty"),
            ("a@", "domain is empty"),
            ("a@b@c.d", "'@' before the '@'"),
            (".a@b.c", "begins or ends with a dot"),
            ("a..b@c.d", "two in a row"),
            ("a b@c.d", "' ' before the '@'"),
            (" a@c.d", "' ' before the '@'"),
            ("a@c.d ", "the domain has ' '"),
            ("a@b..c", "two in a row"),
            ("a@b.c.", "ends with a dot"),
            ("a@-b.c", "'-'"),
            ("a@b_c.d", "'_'"),
            ("\"a b\"@c.d", "'\"'"),
            ("a@[169.254.169.254]", "'['"),
            ("a@10.0.0.1", "number"),
            ("a(x)@b.c", "'('"),
            ("a@b.c\r\nBcc: x@y.z", "U+000D"),
            ("A <a@b.c>", "' ' before"),
            ("a,b@c.d", "','"),
            ("a@例え。テスト", "'。'"),
            (&format!("{}@b.c", "x".repeat(65)), "65 bytes before"),
            (&format!("a@{}.c", "x".repeat(64)), "longer than 63"),
            (&too_long, "254 are allowed"),
        ] {
            let error = parse(address).unwrap_err();
            assert!(error.field == "email" && error.reason.contains(hint), "{address:?}: {error}");
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
