//! HTTP message signatures (RFC 9421), as far as requests with `hmac-sha256` need them.
//!
//! Structured fields (RFC 9651) are read and written by the crate `sfv`, the HMAC is ring's. What is left is the
//! signature base (section 2.5): a line for each covered component, and one for the parameters.

use std::{fmt::Write as _, time::SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header::HOST, request::Parts};
use ring::{
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, Item, List, ListEntry, Parser};

use super::{DECISIVE, is_current, secs};

/// What is covered, and when and by whom it was signed.
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The signature.
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");
/// The hash of the body (RFC 9530).
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// The label of our own signatures; any other will do as well.
const LABEL: &str = "muster";
/// The algorithm's name (RFC 9421, section 6.2.2).
const ALGORITHM: &str = "hmac-sha256";
/// The longest nonce and name of a key.
const TEXT_MAX_BYTES: usize = 128;
/// The shortest nonce.
const NONCE_MIN_BYTES: usize = 8;

/// What the signature of a request says.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    /// Whose key.
    pub name: String,
    /// Never used before.
    pub nonce: String,
    /// In seconds since 1970.
    created: u64,
    expires: Option<u64>,
    /// The components, with the parameters behind them.
    covered: InnerList,
    signature: Vec<u8>,
}

/// Why a signature is not taken; completes the sentence "the signature does not hold: …".
pub type Why = &'static str;

/// Whether a request is signed so.
#[must_use]
pub fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key(SIGNATURE_INPUT)
}

/// Adds the fields that sign `request`.
pub(super) fn sign<B: AsRef<[u8]>>(name: &str, key: &hmac::Key, request: &mut Request<B>, created: u64) {
    let body = request.body().as_ref();
    if !body.is_empty() {
        let digest = dictionary("sha-256", Item::new(sha256(body)));
        request.headers_mut().insert(CONTENT_DIGEST, digest);
    }
    let mut covered = vec!["@method", "@path"];
    covered.extend(request.uri().query().map(|_| "@query"));
    let mut fields = Vec::from(DECISIVE);
    fields.push(CONTENT_DIGEST);
    covered.extend(fields.iter().filter(|field| request.headers().contains_key(*field)).map(HeaderName::as_str));
    let items = covered.into_iter().map(|name| Item::new(text(name))).collect();
    let mut nonce = [0; 16];
    // Without random numbers the same nonce comes again, and is refused: never accepted by mistake.
    let _unlikely = SystemRandom::new().fill(&mut nonce);
    let mut list = InnerList::new(items);
    let created = sfv::Integer::try_from(created).unwrap_or_default();
    for (parameter, value) in [("created", created.into()), ("nonce", text(&hex::encode(nonce))), ("keyid", text(name))]
    {
        list.params.insert(parameter_name(parameter), value);
    }
    let target = Target::of(request.method(), request.uri(), request.headers());
    let Ok(base) = base(&target, &list) else { return };
    let signature = hmac::sign(key, base.as_bytes()).as_ref().to_vec();
    let input = dictionary(LABEL, list);
    request.headers_mut().insert(SIGNATURE_INPUT, input);
    request.headers_mut().insert(SIGNATURE, dictionary(LABEL, Item::new(signature)));
}

// === impl Signed ===

impl Signed {
    /// Reads the only signature of a request.
    ///
    /// # Errors
    ///
    /// What is missing, or cannot be read.
    pub fn read(headers: &HeaderMap) -> Result<Self, Why> {
        let inputs = read_dictionary(headers, &SIGNATURE_INPUT).ok_or("Signature-Input cannot be read")?;
        let signatures = read_dictionary(headers, &SIGNATURE).ok_or("Signature is missing, or cannot be read")?;
        let mut inputs = inputs.into_iter();
        let (Some((label, ListEntry::InnerList(covered))), None) = (inputs.next(), inputs.next()) else {
            return Err("Signature-Input must have one signature");
        };
        let signature = match signatures.get(&label) {
            Some(ListEntry::Item(Item { bare_item: BareItem::ByteSequence(bytes), .. })) => bytes.clone(),
            _ => return Err("Signature has none of the name that Signature-Input gives"),
        };
        let text = |name| covered.params.get(name).and_then(BareItem::as_string).map(|text| text.as_str().to_owned());
        let time = |name| u64::try_from(i64::from(covered.params.get(name)?.as_integer()?)).ok();
        if text("alg").is_some_and(|algorithm| algorithm != ALGORITHM) {
            return Err("alg must be hmac-sha256");
        }
        let name = text("keyid").filter(|name| name.len() <= TEXT_MAX_BYTES).ok_or("keyid is missing")?;
        let is_nonce = |nonce: &String| (NONCE_MIN_BYTES..=TEXT_MAX_BYTES).contains(&nonce.len());
        let nonce = text("nonce").filter(is_nonce).ok_or("a nonce of 8 to 128 characters is missing")?;
        let created = time("created").ok_or("created is missing")?;
        Ok(Self { name, nonce, created, expires: time("expires"), covered, signature })
    }

    /// Whether it was signed at about `now`, and counts still.
    #[must_use]
    pub fn is_current(&self, now: SystemTime) -> bool {
        is_current(self.created, now) && self.expires.is_none_or(|expires| secs(now) <= expires)
    }

    /// Whether the signature is that of this request, and covers what it must. Takes the same time whatever is wrong
    /// with the signature itself.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(&self, key: &hmac::Key, request: &Parts, body: &[u8]) -> Result<(), Why> {
        let target = Target::of(&request.method, &request.uri, &request.headers);
        let base = base(&target, &self.covered)?;
        self.check_coverage(&target, !body.is_empty())?;
        if self.covers(CONTENT_DIGEST.as_str()) && !is_digest_of(&request.headers, body) {
            return Err("Content-Digest is not the sha-256 of the body");
        }
        hmac::verify(key, base.as_bytes(), &self.signature).map_err(|_| "it is another key's, or another request's")
    }

    fn check_coverage(&self, target: &Target<'_>, has_body: bool) -> Result<(), Why> {
        let has_query = target.uri.query().is_some();
        let covers_target = self.covers("@path") && (!has_query || self.covers("@query"));
        if !self.covers("@method") || !covers_target && !self.covers("@request-target") {
            return Err("it must cover @method, @path, and @query where there is one");
        }
        if has_body && !self.covers(CONTENT_DIGEST.as_str()) {
            return Err("it must cover content-digest, because there is a body");
        }
        let is_open = |field: &&HeaderName| target.headers.contains_key(*field) && !self.covers(field.as_str());
        match DECISIVE.iter().find(is_open) {
            Some(_) => {
                Err("it must cover content-type, range, idempotency-key and the conditions (If-Match and the like) \
                            where the request has them")
            }
            None => Ok(()),
        }
    }

    fn covers(&self, component: &str) -> bool {
        let name = |item: &Item| item.bare_item.as_string().is_some_and(|name| name.as_str() == component);
        self.covered.items.iter().any(name)
    }
}

/// What components are taken from.
struct Target<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

// === impl Target ===

impl<'a> Target<'a> {
    fn of(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Self {
        Self { method, uri, headers }
    }

    /// The value of a component (RFC 9421, sections 2.1 and 2.2); nothing for one that is not there, or that we do not
    /// know.
    fn component(&self, name: &str) -> Option<String> {
        let path = self.uri.path();
        Some(match name {
            "@method" => self.method.as_str().to_owned(),
            "@path" => if path.is_empty() { "/" } else { path }.to_owned(),
            "@query" => format!("?{}", self.uri.query().unwrap_or_default()),
            "@request-target" => self.uri.path_and_query()?.as_str().to_owned(),
            "@authority" => self.headers.get(HOST)?.to_str().ok()?.to_ascii_lowercase(),
            _ => self.field(name)?,
        })
    }

    /// All lines of a field, as one.
    fn field(&self, name: &str) -> Option<String> {
        let is_lower_case = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        let field = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| is_lower_case)?;
        let lines = self.headers.get_all(field).into_iter().map(|line| line.to_str().ok().map(str::trim));
        let lines = lines.collect::<Option<Vec<_>>>().filter(|lines| !lines.is_empty())?;
        Some(lines.join(", "))
    }
}

/// The signature base (RFC 9421, section 2.5).
fn base(target: &Target<'_>, covered: &InnerList) -> Result<String, Why> {
    let mut base = String::new();
    let mut seen = std::collections::HashSet::new();
    for item in &covered.items {
        let name = item.bare_item.as_string().ok_or("a component is not a string")?.as_str();
        if !item.params.is_empty() {
            return Err("components with parameters are not known here");
        }
        if !seen.insert(name) {
            return Err("a component is named twice");
        }
        let value = target.component(name).ok_or("it covers a component that the request does not have")?;
        let _infallible = writeln!(base, "\"{name}\": {value}");
    }
    let parameters: List = vec![ListEntry::InnerList(covered.clone())];
    let parameters = parameters.serialize().ok_or("it covers nothing")?;
    let _infallible = write!(base, "\"@signature-params\": {parameters}");
    Ok(base)
}

/// Whether `Content-Digest` has the SHA-256 of `body`.
fn is_digest_of(headers: &HeaderMap, body: &[u8]) -> bool {
    let digests = read_dictionary(headers, &CONTENT_DIGEST).unwrap_or_default();
    let digest = match digests.get("sha-256") {
        Some(ListEntry::Item(item)) => item.bare_item.as_byte_sequence(),
        _ => None,
    };
    digest == Some(&sha256(body))
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

fn read_dictionary(headers: &HeaderMap, field: &HeaderName) -> Option<Dictionary> {
    let lines = headers.get_all(field).into_iter().map(|line| line.to_str().ok()).collect::<Option<Vec<_>>>()?;
    Parser::new(&lines.join(", ")).parse().ok()
}

fn dictionary(name: &str, value: impl Into<ListEntry>) -> HeaderValue {
    let dictionary = Dictionary::from_iter([(parameter_name(name), value.into())]);
    let text = dictionary.serialize().unwrap_or_default();
    HeaderValue::from_str(&text).expect("a structured field is visible ASCII")
}

fn parameter_name(name: &str) -> sfv::Key {
    sfv::Key::from_string(name.to_owned()).expect("our own names are lower case")
}

/// A string; what cannot stand in one (a name of a key cannot hold it) is empty and refused.
fn text(text: &str) -> BareItem {
    BareItem::String(sfv::String::from_string(text.to_owned()).unwrap_or_default())
}

#[cfg(test)]
mod tests;
