//! Tokens that `PyJWT` and `joserfc` make, good ones and bad ones, and where their keys come from.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde::Deserialize;
use testkit::{
    etcd::EtcdCluster,
    python::{python, succeed},
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Client, Gateway, Program};

/// What the program makes.
#[derive(Debug, Deserialize)]
struct Made {
    jwks: serde_json::Value,
    /// The set after a rotation, and a token of its new key.
    rotated: serde_json::Value,
    new: String,
    good: BTreeMap<String, String>,
    bad: BTreeMap<String, String>,
    /// Good, and without the scope.
    narrow: String,
}

async fn made() -> Made {
    let mut command = python("python");
    command.args(["-W", "ignore", "-c", include_str!("access_tokens.py")]);
    serde_json::from_str(&succeed(command, Duration::from_secs(60)).await).unwrap()
}

fn policy(keys: &str) -> String {
    format!(
        r#"{{"auth":{{"jwt":{{"issuer":"https://id.example","audiences":["mail"],{keys},"scopes":["mail.read"],
            "claims":{{"x-auth-email":"email"}}}}}}}}"#
    )
}

async fn ask(gateway: &Gateway, token: &str) -> Answer {
    get(gateway.address(), token).await
}

async fn get(address: std::net::SocketAddr, token: &str) -> Answer {
    let request =
        format!("GET /mail HTTP/1.1\r\nHost: a\r\nX-Auth-Email: forged\r\nAuthorization: Bearer {token}\r\n\r\n");
    Client::connect(address).await.ask(&request).await
}

fn write(path: &Path, jwks: &serde_json::Value) {
    std::fs::write(path, jwks.to_string()).unwrap();
}

#[tokio::test]
async fn tokens_of_pyjwt_and_joserfc_pass_when_they_are_good_and_only_then() {
    let made = made().await;
    let mail = Upstream::named("mail").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    write(&file, &made.jwks);
    let mut gateway = Gateway::before(&[mail.address()], &["--header-max-bytes=32768"]);
    gateway.set_policy("mail", &policy(&format!(r#""jwks_file":"{}""#, file.display())));
    assert!(made.good.len() >= 22 && made.bad.len() >= 20, "{} {}", made.good.len(), made.bad.len());
    for (name, token) in &made.good {
        // The second time it is one that was good a moment ago.
        for _ in 0..2 {
            let answer = ask(&gateway, token).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        }
        let told = mail.requests().pop().unwrap();
        assert_eq!(
            (told.header("x-auth-subject"), told.header("x-auth-email")),
            (Some("ann"), Some("ann@example.org"))
        );
        assert_eq!((told.header("x-auth-method"), told.header("authorization")), (Some("jwt"), None));
    }
    let before = mail.requests().len();
    for (name, token) in &made.bad {
        let answer = ask(&gateway, token).await;
        assert_eq!(answer.code(), (401, "credentials_invalid".to_owned()), "{name}: {}", answer.text());
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{name}");
        assert!(!answer.text().contains(token.as_str()), "{name}");
    }
    let narrow = ask(&gateway, &made.narrow).await;
    assert_eq!(narrow.code(), (403, "out_of_scope".to_owned()));
    let challenge = narrow.header("www-authenticate").unwrap();
    assert!(challenge.contains("error=\"insufficient_scope\", scope=\"mail.read\""), "{challenge}");
    assert_eq!(mail.requests().len(), before, "nothing that is refused reaches an instance");
}

#[tokio::test]
async fn a_new_key_is_fetched_once_a_minute_at_most_and_the_last_good_set_outlives_its_issuer() {
    let made = made().await;
    let mail = Upstream::named("mail").await;
    let (first, rotated) = (made.jwks.to_string(), made.rotated.to_string());
    let issuer = Upstream::start(move |request| match request.target.as_str() {
        "/first" => Reply::ok(&first),
        "/rotated" => Reply::ok(&rotated),
        _ => Reply::status(503, &[], "away"),
    })
    .await;
    let url = |path: &str| policy(&format!(r#""jwks_url":"http://{}/{path}""#, issuer.address()));
    let mut gateway = Gateway::before(&[mail.address()], &[]);
    gateway.set_policy("mail", &url("first"));
    let token = &made.good["PyJWT RS256"];
    assert_eq!(ask(&gateway, token).await.status, 200, "the first request waits for the keys");
    // Invented key ids cause no request to the issuer, and are answered at once.
    for _ in 0..20 {
        assert_eq!(ask(&gateway, &made.new).await.status, 401);
    }
    assert_eq!(issuer.requests().len(), 1);
    gateway.set_policy("mail", &url("rotated"));
    assert_eq!(ask(&gateway, &made.new).await.status, 200);
    gateway.set_policy("mail", &url("away"));
    let away = ask(&gateway, token).await;
    assert_eq!(away.code(), (503, "auth_unavailable".to_owned()), "closed, not open");
    assert!(away.header("retry-after").is_some());
}

#[tokio::test]
async fn a_restart_survives_the_outage_of_the_issuer_and_of_etcd() {
    let made = made().await;
    let mail = Upstream::named("mail").await;
    let jwks = made.jwks.to_string();
    let issuer = Upstream::start(move |_| Reply::ok(&jwks)).await;
    let mut etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("table.json");
    let option = format!("--snapshot-file={}", snapshot.display());
    etcd.etcdctl(&["put", "service/mail/0", &mail.address().to_string()]);
    etcd.etcdctl(&["put", "config/mail", &policy(&format!(r#""jwks_url":"http://{}/""#, issuer.address()))]);
    let mut program = Program::start(etcd.dir(), &etcd.endpoint(0), &[&option]).await;
    let token = &made.good["joserfc ES512"];
    wait_until("the policy", SOON, async || get(program.address, "x").await.status == 401).await;
    assert_eq!(get(program.address, token).await.status, 200);
    assert_eq!(program.terminate(), Some(0));
    etcd.kill(0);
    drop(issuer);
    let program = Program::start(folder.path(), &etcd.endpoint(0), &[&option]).await;
    assert_eq!(get(program.address, token).await.status, 200);
}
