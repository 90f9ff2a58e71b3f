//! Who may do what: tokens, signatures, addresses, limits; and that every other way in has the same door.

use std::path::{Path, PathBuf};

use heartbeat::{Details, Heartbeat, HeartbeatOptions};
use registry::admission::names::AllowNames;
use reqwest::Method;
use serde_json::{Value, json};
use service_kit::{signature::SigningKey, tokens::NewToken};
use testkit::{
    etcd::EtcdCluster,
    name_server::{Manner, NameServer},
    python::{python, succeed},
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Registry, instance_path, keys};

/// A tokens file in a folder of its own.
struct TokensFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl TokensFile {
    fn with(tokens: &[&NewToken]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let lines: Vec<&str> = tokens.iter().map(|token| token.line.as_str()).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        Self { _folder: folder, path }
    }
}

fn token(name: &str, scopes: &[&str]) -> NewToken {
    let scopes: Vec<_> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
    NewToken::random(name, &scopes, false).unwrap()
}

async fn ask(registry: &Registry, token: Option<&NewToken>, method: &str, path: &str, body: Value) -> Answer {
    let bearer = token.map(|token| format!("Bearer {}", token.secret));
    let headers = bearer.as_deref().map(|bearer| ("authorization", bearer));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    registry.ask_with(method.parse::<Method>().unwrap(), path, headers, body).await
}

#[tokio::test]
async fn every_path_asks_for_its_scope() {
    let etcd = EtcdCluster::start(1).await;
    let mail = token("mail", &["mail:register"]);
    let reader = token("reader", &["mail:read"]);
    let ops = token("ops", &["*:*"]);
    let file = TokensFile::with(&[&mail, &reader, &ops]);
    let registry = Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(file.path.clone())).await;
    let instance = instance_path("mail/a");
    let other = instance_path("web/a");
    let list = "/v1/services/mail/instances";
    let drain = format!("{instance}/override");
    let full = json!({"address": "10.0.0.5:7070"});
    let draining = json!({"status": "draining"});
    let plain = |name: &str| json!({"name": name, "host": "10.0.0.5", "port": 7070});
    for (who, method, path, body, status) in [
        (None, "PUT", instance.as_str(), full.clone(), 401),
        (None, "GET", "/v1/services", Value::Null, 401),
        (None, "GET", "/healthz", Value::Null, 200),
        (Some(&reader), "PUT", &instance, full.clone(), 403),
        (Some(&mail), "PUT", &instance, full.clone(), 200),
        (Some(&mail), "PUT", &other, full.clone(), 403),
        (Some(&mail), "POST", "/", plain("mail"), 200),
        (Some(&mail), "POST", "/", plain("web"), 403),
        (Some(&reader), "POST", "/", plain("mail"), 403),
        (Some(&mail), "GET", list, Value::Null, 403),
        (Some(&reader), "GET", list, Value::Null, 200),
        (Some(&reader), "GET", "/v1/services", Value::Null, 403),
        (Some(&reader), "GET", "/v1/services?service=mail", Value::Null, 403),
        (Some(&reader), "GET", "/v1/prometheus/targets?service=mail", Value::Null, 403),
        (Some(&reader), "GET", "/v1/watch?service=web", Value::Null, 403),
        (Some(&ops), "GET", "/v1/services", Value::Null, 200),
        (Some(&mail), "PUT", &drain, draining.clone(), 403),
        (Some(&ops), "PUT", &drain, draining, 200),
        (Some(&mail), "DELETE", &drain, Value::Null, 403),
        (Some(&reader), "DELETE", &instance, Value::Null, 403),
        (Some(&mail), "DELETE", &instance, Value::Null, 200),
    ] {
        let answer = ask(&registry, who, method, path, body).await;
        let name = who.map_or("nobody", |token| token.line.split(' ').next().unwrap());
        assert_eq!(answer.status.as_u16(), status, "{name}: {method} {path}: {:?}", answer.body);
    }
    assert!(!keys(&etcd).iter().any(|key| key.starts_with("service/web")));
}

#[tokio::test]
async fn a_key_of_the_gateway_opens_no_service_that_its_writer_may_not_configure() {
    let etcd = EtcdCluster::start(1).await;
    let key = token("key", &["key:config", "mail:config"]);
    let ops = token("ops", &["*:config"]);
    let file = TokensFile::with(&[&key, &ops]);
    let registry = Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(file.path.clone())).await;
    let opening = |service: &str| json!({"sha256": "ab".repeat(32), "services": [service]});
    for (who, service, status) in
        [(&key, "mail", 200), (&key, "web", 403), (&key, "*", 403), (&ops, "web", 200), (&ops, "*", 200)]
    {
        let answer = ask(&registry, Some(who), "PUT", "/v1/config/key/ci", opening(service)).await;
        assert_eq!(answer.status.as_u16(), status, "{service}: {:?}", answer.body);
    }
    let revoked = ask(&registry, Some(&key), "DELETE", "/v1/config/key/ci", Value::Null).await;
    assert_eq!(revoked.status.as_u16(), 200, "to end a key, the right to keys is enough");
}

#[tokio::test]
async fn a_service_registers_with_its_token_or_with_its_signature() {
    let etcd = EtcdCluster::start(1).await;
    let bearer = token("bearer", &["mail:register"]);
    let signer = NewToken::random("signer", &["web:register".parse().unwrap()], true).unwrap();
    let file = TokensFile::with(&[&bearer, &signer]);
    let registry = Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(file.path.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    for (service, secret, is_signing) in [("mail", &bearer.secret, false), ("web", &signer.secret, true)] {
        let path = folder.path().join(service);
        std::fs::write(&path, secret).unwrap();
        let mut options = HeartbeatOptions::for_registries(vec![registry.url.parse().unwrap()]);
        match is_signing {
            true => options.credentials.registry_key_file = Some(path),
            false => options.credentials.registry_token_file = Some(path),
        }
        options.let_go = std::time::Duration::ZERO;
        let listen = ([127, 0, 0, 1], 7070).into();
        let heartbeat = Heartbeat::start(service.parse().unwrap(), listen, &options, Details::default());
        let mut state = heartbeat.state();
        let registered = tokio::time::timeout(SOON, state.wait_for(|state| state.registered)).await;
        drop(registered.unwrap_or_else(|_| panic!("{service} is registered")).unwrap());
        assert!(keys(&etcd).contains(&format!("service/{service}/127.0.0.1:7070")));
        heartbeat.deregister().await;
        let is_there = || keys(&etcd).contains(&format!("service/{service}/127.0.0.1:7070"));
        testkit::wait::wait_until("it is gone", SOON, async || !is_there()).await;
    }
}

#[tokio::test]
async fn a_recorded_heartbeat_counts_once_at_each_replica_and_keeps_nobody_for_longer_than_a_ttl() {
    let etcd = EtcdCluster::start(1).await;
    let signer = NewToken::random("signer", &["mail:register".parse().unwrap()], true).unwrap();
    let file = TokensFile::with(&[&signer]);
    let start = || Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(file.path.clone()));
    let first = start().await;
    let second = start().await;
    let key = SigningKey::parse(&signer.secret.clone().into()).unwrap();
    let path = instance_path("mail/a");
    let body = json!({"address": "10.0.0.5:7070", "ttl_ms": 2000}).to_string();
    let signed = |method: Method, body: &str| {
        let mut request = axum::http::Request::builder().method(method).uri(&path).body(body.to_owned()).unwrap();
        key.sign(&mut request);
        request
    };
    let recorded = signed(Method::PUT, &body);
    let send = async |registry: &Registry| registry.send(&recorded).await.status.as_u16();
    assert_eq!((send(&first).await, send(&first).await), (200, 401));
    let gone = first.send(&signed(Method::DELETE, "")).await;
    assert_eq!((gone.status.as_u16(), keys(&etcd).len()), (200, 0));
    // This is what doc/security.md says about replays: it is back, for one TTL.
    assert_eq!((send(&second).await, send(&second).await), (200, 401));
    testkit::wait::wait_until("it is gone", SOON, async || keys(&etcd).is_empty()).await;
    assert_eq!((send(&first).await, send(&second).await), (401, 401));
}

#[tokio::test]
async fn a_recorded_write_does_nothing_without_its_condition() {
    let etcd = EtcdCluster::start(1).await;
    let signer = NewToken::random("signer", &["shop:config".parse().unwrap(), "shop:read".parse().unwrap()], true);
    let signer = signer.unwrap();
    let file = TokensFile::with(&[&signer]);
    let registry = Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(file.path.clone())).await;
    let key = SigningKey::parse(&signer.secret.clone().into()).unwrap();
    let signed = |method: Method, condition: Option<(&str, &str)>, body: &str| {
        let request = axum::http::Request::builder().method(method).uri("/v1/config/shop/limit");
        let request = condition.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let mut request = request.body(body.to_owned()).unwrap();
        key.sign(&mut request);
        request
    };
    let created = registry.send(&signed(Method::PUT, Some(("if-none-match", "*")), "100")).await;
    assert!(created.status.is_success(), "{created:?}");
    // Its condition does not hold, so it does nothing; recorded, and sent without the condition, it would.
    let stale = signed(Method::PUT, Some(("if-match", "\"1\"")), "1000");
    let mut stripped = stale.clone();
    stripped.headers_mut().remove("if-match");
    let stripped = registry.send(&stripped).await;
    assert_eq!((stripped.status.as_u16(), stripped.code()), (401, "signature_refused"));
    assert_eq!(registry.send(&stale).await.status.as_u16(), 412);
    assert_eq!(registry.send(&signed(Method::GET, None, "")).await.body, json!(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_implementation_of_the_standard_signs_what_is_taken() {
    let etcd = EtcdCluster::start(1).await;
    let scopes = ["shop:register", "shop:config"].map(|scope| scope.parse().unwrap());
    let signer = NewToken::random("signer", &scopes, true).unwrap();
    let file = TokensFile::with(&[&signer]);
    let registry = Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(file.path.clone())).await;
    let mut client = python("python");
    client.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/signed_client.py"));
    let (name, key) = signer.secret.split_once(':').unwrap();
    client.args([&registry.url, name, key]);
    let printed = succeed(client, SOON).await;
    assert_eq!(printed.lines().filter(|line| line.len() == 3).collect::<Vec<_>>(), ["200", "200", "412"], "{printed}");
}

#[tokio::test]
async fn addresses_that_nobody_may_announce_are_refused_in_every_form() {
    let registry = Registry::without_etcd().await;
    for address in [
        "169.254.169.254:80",
        "[::ffff:169.254.169.254]:80",
        "[::ffff:a9fe:a9fe]:80",
        "[fe80::1]:80",
        "[fd00:ec2::254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[2002:a9fe:a9fe::]:80",
        "8.8.8.8:53",
        "[2001:db8::1]:80",
    ] {
        let answer = registry.heartbeat("mail/a", &json!({ "address": address }).to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (422, "address_not_allowed"), "{address}");
        assert_eq!(answer.field(), "address");
    }
    let plain = json!({"name": "mail", "host": "169.254.169.254", "port": 80}).to_string();
    assert_eq!(registry.ask(Method::POST, "/", plain).await.code(), "address_not_allowed");
    let metrics = registry.get("/metrics").await.body;
    assert!(metrics.as_str().unwrap().contains("registry_denied_total{reason=\"Address\"} 10"), "{metrics}");
}

#[tokio::test]
async fn a_name_is_held_to_the_rules_of_what_it_resolves_to() {
    let etcd = EtcdCluster::start(1).await;
    let body = json!({"address": "localhost:7070"}).to_string();
    let registry = Registry::start(&etcd).await;
    registry.beat("mail/a", &body).await;
    let ten = vec!["10.0.0.0/8".parse().unwrap()];
    let strict = Registry::start_with(&etcd, |config| config.admission.allow_networks = ten).await;
    assert_eq!(strict.heartbeat("mail/b", &body).await.code(), "address_not_allowed");
    strict.beat("mail/a", &body).await;
    let refusing = Registry::start_with(&etcd, |config| config.admission.allow_names = AllowNames::Refuse).await;
    assert_eq!(refusing.heartbeat("mail/b", &body).await.code(), "name_not_allowed");
    let unknown = json!({"address": "no-such-name.invalid:1"}).to_string();
    assert_eq!(registry.heartbeat("mail/b", &unknown).await.code(), "name_not_allowed");
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_now_is_503_and_one_that_does_not_exist_is_422() {
    let etcd = EtcdCluster::start(1).await;
    let names = NameServer::start().await;
    let registry = Registry::start_with(&etcd, |config| config.admission.name_servers = vec![names.address()]).await;
    let body = json!({"address": "mail-1.test:7070"}).to_string();
    let missing = registry.heartbeat("mail/a", &body).await;
    assert_eq!((missing.status.as_u16(), missing.code()), (422, "name_not_allowed"), "NXDOMAIN");
    names.set("mail-1.test", &["127.0.0.1"], 60);
    for manner in [Manner::Failing, Manner::Silent] {
        names.set_manner(manner);
        let later = registry.heartbeat("mail/a", &body).await;
        assert_eq!((later.status.as_u16(), later.code()), (503, "name_unresolved"), "{manner:?}: {:?}", later.body);
        assert_eq!(later.headers["retry-after"], "1");
    }
    names.set_manner(Manner::Prompt);
    wait_until("the heartbeat is taken", SOON, async || registry.heartbeat("mail/a", &body).await.status == 200).await;
}

#[tokio::test]
async fn an_address_is_taken_only_from_who_has_it_if_that_is_asked_for() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| config.admission.source_match = true).await;
    let answer = registry.heartbeat("mail/a", r#"{"address":"10.0.0.5:7070"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "address_not_yours"));
    registry.beat("mail/a", r#"{"address":"127.0.0.1:7070"}"#).await;
    registry.beat("mail/b", r#"{"address":"[::ffff:127.0.0.1]:7070"}"#).await;
}

#[tokio::test]
async fn a_service_and_a_token_have_only_so_much_room_and_who_is_there_keeps_it() {
    let etcd = EtcdCluster::start(1).await;
    let ci = token("ci", &["*:*"]);
    let file = TokensFile::with(&[&ci]);
    let registry = Registry::start_with(&etcd, |config| {
        config.admission.tokens_file = Some(file.path.clone());
        config.admission.instances_max = 2;
        config.admission.services_per_token_max = 2;
    })
    .await;
    let beat = async |key: &str| {
        let answer = ask(&registry, Some(&ci), "PUT", &instance_path(key), json!({"address": "10.0.0.5:7070"})).await;
        (answer.status.as_u16(), answer.code().to_owned())
    };
    let shown = async |service: &str, count: usize| {
        let path = format!("/v1/services/{service}/instances");
        testkit::wait::wait_until("the mirror shows it", SOON, async || {
            let answer = ask(&registry, Some(&ci), "GET", &path, Value::Null).await;
            answer.body["instances"].as_array().is_some_and(|all| all.len() == count)
        })
        .await;
    };
    for key in ["mail/a", "mail/b"] {
        assert_eq!(beat(key).await.0, 200);
    }
    shown("mail", 2).await;
    assert_eq!(beat("mail/c").await, (429, "too_many_instances".to_owned()));
    assert_eq!(beat("mail/a").await.0, 200, "who is there stays");
    assert_eq!(beat("web/a").await.0, 200);
    shown("web", 1).await;
    assert_eq!(beat("shop/a").await, (429, "too_many_services".to_owned()));
    for key in ["mail/a", "mail/b"] {
        let path = instance_path(key);
        assert_eq!(ask(&registry, Some(&ci), "DELETE", &path, Value::Null).await.status.as_u16(), 200);
    }
    shown("mail", 0).await;
    shown("web", 1).await;
    assert_eq!(beat("shop/a").await.0, 200, "what is gone has made room");
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_again() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| config.admission.client_rate = 5).await;
    let mut refused = None;
    for _ in 0..200 {
        let answer = registry.get("/v1/services").await;
        if answer.status.as_u16() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("two seconds' worth is soon used up");
    assert_eq!((refused.code(), refused.headers["retry-after"].to_str().unwrap()), ("rate_limited", "1"));
    assert_eq!(registry.get("/healthz").await.status.as_u16(), 200, "its health is asked outside of that");
}

#[test]
fn registry_token_new_prints_a_token_and_its_line() {
    let program = env!("CARGO_BIN_EXE_registry");
    let made = std::process::Command::new(program).args(["token", "new", "ci", "--scope", "mail:register"]).output();
    let made = made.unwrap();
    assert!(made.status.success());
    let text = String::from_utf8(made.stdout).unwrap();
    let (secret, line) = text.trim_end().split_once('\n').unwrap();
    assert!(secret.starts_with("muster_") && line.starts_with("ci sha256:") && line.ends_with(" mail:register"));
    let bad = std::process::Command::new(program).args(["token", "new", "ci", "--scope", "mail"]).output().unwrap();
    assert_eq!(bad.status.code(), Some(64));
}
