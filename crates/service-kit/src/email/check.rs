//! What is no address, and why: the checks in the order in which their reasons help most.

use email_address::{EmailAddress as Parser, Error, Options};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use url::Host;

use super::EmailAddress;
use crate::text::{code_point, invisible};

const IS_AN_IP_ADDRESS: &str = "what is after the '@' is an IP address, and must be the name of a domain";

/// Whether this is an address; else what is wrong with it.
pub(super) fn check(address: &str) -> Result<(), String> {
    if address.is_empty() {
        return Err("it is empty".to_owned());
    }
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
    let ascii = check_domain(domain)?;
    let sent = local.len() + 1 + ascii.len();
    if sent > EmailAddress::MAX_BYTES {
        return Err(format!("it is sent as {sent} bytes, {} are allowed", EmailAddress::MAX_BYTES));
    }
    Ok(())
}

/// Every character of another script as as many letters as it has bytes.
///
/// RFC 6531, section 3.3 allows all of them before the '@'. The parser looks for the bytes of UTF-8 in code points, and
/// so refuses marks that are no letters, as in "संपर्क".
fn without_scripts(local: &str) -> String {
    local.chars().flat_map(|c| std::iter::repeat_n(if c.is_ascii() { c } else { 'x' }, c.len_utf8())).collect()
}

/// The domain in ASCII, when it is one.
fn check_domain(domain: &str) -> Result<String, String> {
    // Other dots separate labels too, in software that maps them (RFC 3490, section 3.1), and not in the rest.
    if let Some(c) = domain.chars().find(|c| matches!(c, '。' | '．' | '｡')) {
        return Err(format!("the domain has {c:?} for a dot"));
    }
    if domain.is_ascii() {
        parse(&format!("x@{domain}"))?;
    }
    let Some(ascii) = ascii_domain(domain) else { return Err("the domain cannot be one".to_owned()) };
    parse(&format!("x@{ascii}"))?;
    // The URL standard's parser finds every spelling of an IP address, as browsers and many resolvers read them. A last
    // label that is a number is never a domain's (RFC 3696, section 2), and an error of that parser.
    match Host::parse(&ascii) {
        Ok(Host::Domain(_)) => Ok(ascii),
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) | Err(_) => Err(IS_AN_IP_ADDRESS.to_owned()),
    }
}

/// The domain as DNS has it; none when it cannot be looked up (RFC 5891, RFC 1035).
pub(super) fn ascii_domain(domain: &str) -> Option<String> {
    let std3 = AsciiDenyList::STD3;
    let hyphens = Hyphens::CheckFirstLast;
    let length = DnsLength::Verify;
    Uts46::new().to_ascii(domain.as_bytes(), std3, hyphens, length).ok().map(Into::into)
}

/// The domain as people read it; a label that cannot be decoded stays as it is.
pub(super) fn unicode_domain(domain: &str) -> String {
    let (unicode, _) = Uts46::new().to_unicode(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    unicode.into_owned()
}

/// What the parser says of an address in ASCII.
fn parse(address: &str) -> Result<(), String> {
    let options = Options::default().without_domain_literal().without_display_text().with_no_minimum_sub_domains();
    match Parser::parse_with_options(address, options) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(&error).to_owned()),
    }
}

fn explain(error: &Error) -> &'static str {
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
        Error::UnsupportedDomainLiteral | Error::InvalidIPAddress => IS_AN_IP_ADDRESS,
        Error::UnsupportedDisplayName | Error::MissingDisplayName | Error::MissingEndBracket => {
            "it is a name and an address"
        }
        Error::InvalidCharacter | Error::UnbalancedQuotes | Error::InvalidComment | Error::DomainTooFew => {
            "it has a character or a dot in a place where none is allowed"
        }
    }
}
