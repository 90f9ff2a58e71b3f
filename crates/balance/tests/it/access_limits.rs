//! How much of a service one client may have.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Gateway};

async fn limited(policy: &str, options: &[&str]) -> (Upstream, Gateway) {
    let mail = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[mail.address()], options);
    gateway.set_policy("mail", policy);
    (mail, gateway)
}

async fn get(gateway: &Gateway, fields: &str) -> Answer {
    gateway.ask(&format!("GET /mail HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await
}

#[tokio::test]
async fn a_client_over_its_limit_is_told_what_is_allowed_and_when() {
    let (mail, gateway) = limited(r#"{"rate_limit":[{"requests":3,"window":"1h"}]}"#, &["--workers=2"]).await;
    for _ in 0..3 {
        assert_eq!(get(&gateway, "").await.status, 200);
    }
    let refused = get(&gateway, "").await;
    assert_eq!(refused.code(), (429, "rate_limited".to_owned()));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"client\";q=3;w=3600"));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1100..=1200).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit").unwrap(), format!("\"client\";r=0;t={wait}"));
    assert_eq!((mail.requests().len(), gateway.metric("balance_refusals{code=\"rate_limited\"}")), (3, 1));
}

#[tokio::test]
async fn clients_are_told_apart_by_address_and_by_ipv6_64() {
    let policy = r#"{"rate_limit":[{"requests":1,"window":"1h"}]}"#;
    let (_mail, gateway) = limited(policy, &["--trust-forwarded-from=127.0.0.0/8"]).await;
    for (address, status) in [
        ("192.0.2.1", 200),
        ("192.0.2.1", 429),
        ("192.0.2.2", 200),
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 429),
        ("2001:db8:0:2::1", 200),
        ("::ffff:192.0.2.2", 429),
    ] {
        assert_eq!(get(&gateway, &format!("X-Forwarded-For: {address}\r\n")).await.status, status, "{address}");
    }
}

#[tokio::test]
async fn what_is_counted_by_identity_is_not_shared_and_guesses_count_by_client() {
    let auth = r#""auth":{"keys":{"header":"x-api-key"}}"#;
    let rates = r#"[{"key":"identity","requests":2,"window":"1h"},{"key":"client","requests":6,"window":"1h"}]"#;
    let (_mail, mut gateway) = limited(&format!(r#"{{{auth},"rate_limit":{rates}}}"#), &[]).await;
    // SHA-256 of `abc` and of `a`.
    let hashes = [
        ("one", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("two", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
    ];
    for (id, hash) in hashes {
        gateway.set_access_key(id, Some(&format!(r#"{{"sha256":"{hash}","services":["mail"]}}"#)));
    }
    for (key, status) in
        [("abc", 200), ("abc", 200), ("abc", 429), ("a", 200), ("guess", 401), ("guess", 401), ("a", 429)]
    {
        assert_eq!(get(&gateway, &format!("X-Api-Key: {key}\r\n")).await.status, status, "{key}");
    }
    // Another policy with the same limit goes on counting.
    gateway.set_policy("mail", &format!(r#"{{{auth},"rate_limit":{rates},"limits":{{"body_max_bytes":7}}}}"#));
    assert_eq!(get(&gateway, "X-Api-Key: a\r\n").await.status, 429);
}

#[tokio::test]
async fn a_header_is_counted_by_its_value_and_its_absence_by_the_client() {
    let (_mail, gateway) =
        limited(r#"{"rate_limit":[{"key":{"header":"x-tenant"},"requests":1,"window":"1h"}]}"#, &[]).await;
    for (field, status) in
        [("X-Tenant: a\r\n", 200), ("x-tenant: a\r\n", 429), ("X-Tenant: b\r\n", 200), ("", 200), ("", 429)]
    {
        assert_eq!(get(&gateway, field).await.status, status, "{field}");
    }
}

/// A token of an issuer whose secret is 32 times `s`.
fn token(claims: &str) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", part(br#"{"alg":"HS256"}"#), part(claims.as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[b's'; 32]), message.as_bytes());
    format!("{message}.{}", part(signature.as_ref()))
}

#[tokio::test]
async fn a_claim_is_counted_by_its_value_over_all_clients_and_no_two_values_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let secret = URL_SAFE_NO_PAD.encode([b's'; 32]);
    std::fs::write(&file, format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{secret}"}}]}}"#)).unwrap();
    let jwt = format!(r#""jwt":{{"issuer":"i","audiences":[],"jwks_file":"{}"}}"#, file.display());
    let rate = r#"[{"key":{"claim":"org"},"requests":1,"window":"1h"}]"#;
    let (mail, gateway) = limited(&format!(r#"{{"auth":{{{jwt}}},"rate_limit":{rate}}}"#), &[]).await;
    for (sub, org, status) in [
        ("ann", r#""a,b""#, 200),
        ("bob", r#""a,b""#, 429),
        ("ann", r#"["a","b"]"#, 200),
        ("ann", r#"["a,b"]"#, 200),
        ("ann", r#"["a","b"]"#, 429),
        ("ann", "1", 200),
        ("ann", r#""1""#, 200),
        // Without the claim, by the client.
        ("ann", "null", 200),
        ("bob", "{}", 429),
    ] {
        let token = token(&format!(r#"{{"iss":"i","exp":4102444800,"sub":"{sub}","org":{org}}}"#));
        let answer = get(&gateway, &format!("Authorization: Bearer {token}\r\n")).await;
        assert_eq!(answer.status, status, "{sub} {org}: {}", answer.text());
        if status == 429 {
            assert_eq!(answer.header("ratelimit-policy"), Some("\"claim\";q=1;w=3600"));
            let wait = answer.header("retry-after").unwrap().to_owned();
            assert_eq!(answer.header("ratelimit").unwrap(), format!("\"claim\";r=0;t={wait}"));
        }
    }
    assert_eq!(mail.requests().len(), 6);
}

#[tokio::test]
async fn who_is_let_in_without_a_name_is_counted_by_its_client() {
    let rate = r#"[{"key":"identity","requests":1,"window":"1h"}]"#;
    let policy = format!(r#"{{"auth":{{"forward":{{"service":"auth"}}}},"rate_limit":{rate}}}"#);
    let (_mail, mut gateway) = limited(&policy, &["--trust-forwarded-from=127.0.0.0/8"]).await;
    let auth = Upstream::named("auth").await;
    gateway.register("service/auth/0", &auth.address().to_string());
    for (address, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)] {
        assert_eq!(get(&gateway, &format!("X-Forwarded-For: {address}\r\n")).await.status, status, "{address}");
    }
}

#[tokio::test]
async fn a_guess_that_another_way_in_makes_up_for_is_counted_by_its_client_all_the_same() {
    let auth = r#""auth":{"keys":{"header":"x-api-key"},"networks":{"allow":["127.0.0.0/8"]}}"#;
    let rate = r#"[{"requests":2,"window":"1h"}]"#;
    let (mail, gateway) = limited(&format!(r#"{{{auth},"rate_limit":{rate}}}"#), &[]).await;
    for status in [200, 200, 429] {
        assert_eq!(get(&gateway, "X-Api-Key: guess\r\n").await.status, status);
    }
    assert_eq!(mail.requests().len(), 2);
}

#[tokio::test]
async fn a_client_has_its_requests_under_way_until_their_last_byte_also_tunnels() {
    let mail = Upstream::start(|request| match request.target.as_str() {
        "/tunnel" => {
            Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        }
        _ => Reply::ok("mail"),
    })
    .await;
    let mut gateway = Gateway::before(&[mail.address()], &[]);
    gateway.set_policy("mail", r#"{"in_flight_per_client":2}"#);
    let upgrade = "GET /mail/tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut tunnels = Vec::new();
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        client.send(upgrade).await;
        assert_eq!(client.head_only().await.status, 101);
        tunnels.push(client);
    }
    let refused = get(&gateway, "").await;
    assert_eq!(refused.code(), (429, "too_many_in_flight".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // A connection that is refused goes on.
    drop(tunnels);
    wait_until("the places", SOON, async || get(&gateway, "").await.status == 200).await;
}

#[tokio::test]
async fn a_request_is_under_way_while_it_waits_for_a_judgement() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_mail, mut gateway) =
        limited(r#"{"auth":{"forward":{"service":"auth"}},"in_flight_per_client":1}"#, &["--stall-timeout=0s"]).await;
    gateway.register("service/auth/0", &silent.local_addr().unwrap().to_string());
    let mut waiting = gateway.connect().await;
    waiting.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let _asked = silent.accept().await.unwrap();
    assert_eq!(get(&gateway, "").await.code(), (429, "too_many_in_flight".to_owned()));
}
