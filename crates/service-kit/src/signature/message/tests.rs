use std::time::{Duration, UNIX_EPOCH};

use axum::http::{HeaderValue, header::IF_MATCH};

use super::*;
use crate::signature::SigningKey;

const KEY: [u8; 32] = [7; 32];

fn key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &KEY)
}

/// A write with a condition, signed.
fn signed(target: &str, body: &'static str) -> Request<&'static str> {
    let request = Request::builder().method(Method::PUT).uri(target).header(IF_MATCH, "\"7\"");
    let mut request = request.header("content-type", "application/json").body(body).unwrap();
    SigningKey::parse(&format!("shop:{}", hex::encode(KEY)).into()).unwrap().sign(&mut request);
    request
}

fn check(request: Request<&str>) -> Result<(), Why> {
    let (head, body) = request.into_parts();
    Signed::read(&head.headers)?.check(&key(), &head, body.as_bytes())
}

/// The signed write after `change`.
fn changed(change: impl FnOnce(&mut Request<&'static str>)) -> Result<(), Why> {
    let mut request = signed("/v1/config/shop/limit?wait=1s", "1000");
    change(&mut request);
    check(request)
}

#[test]
fn a_signature_holds_for_its_request_and_for_no_other() {
    for (target, body) in [("/v1/config/shop/limit?wait=1s", "1000"), ("/", ""), ("/a%20b?", "x")] {
        assert_eq!(check(signed(target, body)), Ok(()), "{target}");
    }
    assert!(changed(|request| *request.method_mut() = Method::DELETE).is_err());
    assert!(changed(|request| *request.uri_mut() = "/v1/config/shop/other?wait=1s".parse().unwrap()).is_err());
    assert!(changed(|request| *request.uri_mut() = "/v1/config/shop/limit?wait=2s".parse().unwrap()).is_err());
    assert!(changed(|request| *request.uri_mut() = "/v1/config/shop/limit".parse().unwrap()).is_err());
    assert!(changed(|request| *request.body_mut() = "2000").is_err());
    assert!(changed(|request| *request.body_mut() = "").is_err());
    assert_eq!(changed(|request| _ = request.headers_mut().insert("accept", HeaderValue::from_static("*/*"))), Ok(()));
}

#[test]
fn a_condition_can_be_neither_left_out_nor_changed_nor_added() {
    assert!(changed(|request| _ = request.headers_mut().remove(IF_MATCH)).is_err());
    assert!(changed(|request| _ = request.headers_mut().insert(IF_MATCH, HeaderValue::from_static("*"))).is_err());
    assert!(changed(|request| _ = request.headers_mut().append(IF_MATCH, HeaderValue::from_static("\"8\""))).is_err());
    for field in DECISIVE {
        let value = HeaderValue::from_static("x");
        assert!(changed(|request| _ = request.headers_mut().append(field.clone(), value)).is_err(), "{field}");
    }
    assert!(changed(|request| _ = request.headers_mut().remove("content-type")).is_err());
}

#[test]
fn a_body_that_was_not_signed_is_refused() {
    let mut request = signed("/", "");
    *request.body_mut() = "more";
    assert!(check(request).unwrap_err().contains("content-digest"));
    let digest = HeaderValue::from_static("sha-256=:AAAA:");
    assert!(changed(|request| _ = request.headers_mut().insert(CONTENT_DIGEST, digest)).is_err());
}

/// RFC 9421, appendix B.2.5, which covers less than we ask for.
#[test]
fn the_signature_base_is_that_of_the_rfc() {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/foo?param=Value&Pet=dog")
        .header("host", "example.com")
        .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
        .header("content-type", "application/json")
        .header(
            "signature-input",
            "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
        )
        .body(())
        .unwrap();
    let inputs = read_dictionary(request.headers(), &SIGNATURE_INPUT).unwrap();
    let Some(ListEntry::InnerList(covered)) = inputs.get("sig-b25") else { panic!("{inputs:?}") };
    let target = Target::of(request.method(), request.uri(), request.headers());
    let base = base(&target, covered).unwrap();
    assert_eq!(
        base,
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\"content-type\": application/json\n\
         \"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\""
    );
    let secret = hex::decode(
        "bb3bc97c1e2edcdd09cb84fb359ef930355cafccd24c89de749b6481cbb8e985\
         b85c1cb33498f105db635247493c1b5b9878480e2ea9725f23b1ab2395332d0d",
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.unwrap());
    let signature = "a71710c3a1b7023b4c0508f0a3c5f39197ff6f0b392de95b68c939ac6206b44f";
    assert_eq!(hex::encode(hmac::sign(&key, base.as_bytes())), signature);
}

#[test]
fn what_is_signed_is_read_strictly() {
    let good = "(\"@method\" \"@path\");created=1000;nonce=\"00112233\";keyid=\"shop\"";
    let read = |input: &str, signature: &str| {
        let headers = [(SIGNATURE_INPUT, input), (SIGNATURE, signature)];
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_str(value).unwrap()));
        Signed::read(&HeaderMap::from_iter(headers))
    };
    let signed = read(&format!("a={good}"), "a=:AAAA:").unwrap();
    assert_eq!((signed.name.as_str(), signed.nonce.as_str()), ("shop", "00112233"));
    let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
    assert!(signed.is_current(at(1030)) && !signed.is_current(at(1031)));
    let expiring = read(&format!("a={good};expires=1010"), "a=:AAAA:").unwrap();
    assert!(expiring.is_current(at(1010)) && !expiring.is_current(at(1011)));
    for (input, signature) in [
        (format!("a={good}"), "b=:AAAA:"),
        (format!("a={good}"), "a=1"),
        (format!("a={good}, b={good}"), "a=:AAAA:"),
        (format!("a={good};alg=\"ed25519\""), "a=:AAAA:"),
        (good.to_owned(), "a=:AAAA:"),
        (good.replace("created=1000;", ""), "a=:AAAA:"),
        (good.replace("00112233", "0011"), "a=:AAAA:"),
        (good.replace(";keyid=\"shop\"", ""), "a=:AAAA:"),
    ] {
        assert!(read(&input, signature).is_err(), "{input} {signature}");
    }
    for components in [
        "(\"@method\" \"@path\" \"@path\")",
        "(\"@method\" \"@path\" \"x\")",
        "(\"@method\";req \"@path\")",
        "(\"@path\")",
        "(1)",
    ] {
        let input = good.replace("(\"@method\" \"@path\")", components);
        let request = Request::builder().uri("/").header(SIGNATURE_INPUT, format!("a={input}"));
        let request = request.header(SIGNATURE, "a=:AAAA:").body("").unwrap();
        assert!(check(request).is_err_and(|why| !why.contains("another key")), "{components}");
    }
}
