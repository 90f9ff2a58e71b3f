//! Who may use a service through the gateway, by its policy.

use testkit::{
    etcd::EtcdCluster,
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Gateway, Program};

/// SHA-256 of `abc` (FIPS 180-4).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn key(services: &str) -> String {
    format!(r#"{{"sha256":"{ABC}","services":["{services}"]}}"#)
}

/// A gateway before one instance of `mail`, which asks for this.
async fn asking(auth: &str) -> (Upstream, Gateway) {
    let mail = Upstream::start(|_| Reply::ok("mail")).await;
    let mut gateway = Gateway::before(&[mail.address()], &[]);
    gateway.set_policy("mail", &format!(r#"{{"auth":{auth}}}"#));
    (mail, gateway)
}

async fn get(gateway: &Gateway, path: &str, fields: &str) -> Answer {
    gateway.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await
}

/// What the last request that an instance got says in a field.
fn told(upstream: &Upstream, name: &str) -> Option<String> {
    let last = upstream.requests().pop().unwrap();
    last.header(name).map(str::to_owned)
}

#[tokio::test]
async fn a_key_opens_the_service_that_it_is_for_until_it_is_revoked() {
    let (mail, mut gateway) = asking(r#"{"keys":{}}"#).await;
    let missing = get(&gateway, "/mail", "").await;
    assert_eq!(missing.code(), (401, "credentials_missing".to_owned()));
    assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"mail\""));
    let unknown = get(&gateway, "/mail", "Authorization: Bearer abc\r\n").await;
    assert_eq!(unknown.code(), (401, "credentials_invalid".to_owned()));
    assert!(unknown.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    gateway.set_access_key("ci", Some(&key("mail")));
    let opened = get(&gateway, "/mail/x?y", "authorization: bearer abc\r\n").await;
    assert_eq!((opened.status, opened.text().as_str()), (200, "mail"));
    assert_eq!(told(&mail, "x-auth-subject").as_deref(), Some("ci"));
    assert_eq!(told(&mail, "x-auth-method").as_deref(), Some("key"));
    assert_eq!(told(&mail, "authorization"), None, "what has been judged ends at the gateway");
    gateway.set_access_key("ci", Some(&key("web")));
    let other = get(&gateway, "/mail", "Authorization: Bearer abc\r\n").await;
    assert_eq!(other.code(), (403, "out_of_scope".to_owned()));
    assert!(other.header("www-authenticate").unwrap().contains("error=\"insufficient_scope\""));
    gateway.set_access_key("ci", None);
    assert_eq!(get(&gateway, "/mail", "Authorization: Bearer abc\r\n").await.status, 401);
    assert_eq!(mail.requests().len(), 1, "nothing that is refused reaches an instance");
    assert_eq!(gateway.metric("balance_refusals{code=\"out_of_scope\"}"), 1);
}

#[tokio::test]
async fn what_a_client_says_about_itself_ends_at_the_gateway_also_on_public_paths() {
    let (mail, mut gateway) = asking(r#"{"keys":{"header":"X-Api-Key"},"public_paths":["/healthz"]}"#).await;
    gateway.set_access_key("ci", Some(&key("*")));
    let forged = "X-Auth-Subject: root\r\nx-auth-method: key\r\nX_Auth_Subject: root\r\n";
    assert_eq!(get(&gateway, "/mail/healthz", forged).await.status, 200);
    assert_eq!((told(&mail, "x-auth-subject"), told(&mail, "x_auth_subject")), (None, None));
    assert_eq!(get(&gateway, "/mail/x", &format!("{forged}X-Api-Key: abc\r\n")).await.status, 200);
    assert_eq!(told(&mail, "x-auth-subject").as_deref(), Some("ci"));
    assert_eq!(told(&mail, "x-api-key"), None);
    assert_eq!(get(&gateway, "/mail/x", forged).await.status, 401);
}

#[tokio::test]
async fn no_other_spelling_of_a_path_passes_for_a_public_one() {
    let (mail, gateway) = asking(r#"{"keys":{},"public_paths":["/static/*"]}"#).await;
    assert_eq!(get(&gateway, "/mail/static/a.css?x=/../", "").await.status, 200);
    for path in [
        "/mail/static/../admin",
        "/mail/static/%2e%2e/admin",
        "/mail//static/a",
        "/mail/static/..;/admin",
        "/mail/Static/a",
    ] {
        assert_eq!(get(&gateway, path, "").await.status, 401, "{path}");
    }
    assert_eq!(mail.requests().len(), 1);
}

#[tokio::test]
async fn a_policy_of_a_newer_version_lets_nothing_pass_where_none_was_good_before() {
    let mail = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[mail.address()], &[]);
    gateway.set_mistaken_policy("mail", r#"{"auth":{"passkeys":{}}}"#);
    assert_eq!(get(&gateway, "/mail", "").await.code(), (503, "auth_unavailable".to_owned()));
    gateway.set_policy("mail", "{}");
    assert_eq!(get(&gateway, "/mail", "").await.status, 200);
    gateway.set_mistaken_policy("mail", r#"{"auth":{"passkeys":{}}}"#);
    assert_eq!(get(&gateway, "/mail", "").await.status, 200, "the last good one stays in force");
}

#[tokio::test]
async fn two_credentials_in_the_same_field_let_nothing_through() {
    let (_mail, mut gateway) = asking(r#"{"keys":{}}"#).await;
    gateway.set_access_key("ci", Some(&key("mail")));
    let twice = get(&gateway, "/mail", "Authorization: Bearer abc\r\nauthorization: Bearer abc\r\n").await;
    assert_eq!(twice.code(), (401, "credentials_invalid".to_owned()));
    assert!(twice.header("www-authenticate").unwrap().contains("error=\"invalid_request\""));
}

#[tokio::test]
async fn a_network_lets_in_or_keeps_out_and_all_asks_for_both() {
    let (mail, mut gateway) = asking(r#"{"networks":{"allow":["10.0.0.0/8"]}}"#).await;
    assert_eq!(get(&gateway, "/mail", "X-Forwarded-For: 10.1.2.3\r\n").await.code().1, "client_not_allowed");
    gateway.set_policy("mail", r#"{"auth":{"networks":{"allow":["127.0.0.1"]}}}"#);
    assert_eq!(get(&gateway, "/mail", "").await.status, 200);
    assert_eq!(told(&mail, "x-auth-method").as_deref(), Some("network"));
    gateway.set_policy("mail", r#"{"auth":{"require":"all","keys":{},"networks":{"allow":["127.0.0.0/8"]}}}"#);
    assert_eq!(get(&gateway, "/mail", "").await.code().1, "credentials_missing");
    gateway.set_access_key("ci", Some(&key("mail")));
    assert_eq!(get(&gateway, "/mail", "Authorization: Bearer abc\r\n").await.status, 200);
    gateway.set_policy("mail", r#"{"auth":{"keys":{},"networks":{"deny":["127.0.0.0/8"]},"public_paths":["/*"]}}"#);
    assert_eq!(get(&gateway, "/mail", "Authorization: Bearer abc\r\n").await.code().1, "client_not_allowed");
}

#[tokio::test]
async fn a_trusted_proxy_says_where_the_client_is() {
    let mail = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[mail.address()], &["--trust-forwarded-from=127.0.0.0/8"]);
    gateway.set_policy("mail", r#"{"auth":{"networks":{"allow":["10.0.0.0/8"]}}}"#);
    for (line, status) in [
        ("X-Forwarded-For: 10.1.2.3\r\n", 200),
        ("X-Forwarded-For: 192.0.2.1, 10.1.2.3\r\n", 200),
        ("X-Forwarded-For: 10.1.2.3, 192.0.2.1\r\n", 403),
        ("X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-For: 192.0.2.1\r\n", 403),
        ("X-Forwarded-For: 10.1.2.3, 127.0.0.9\r\n", 200),
        ("X-Forwarded-For: 192.0.2.1, 10.1.2.3\r\nX-Forwarded-For: 127.0.0.8, ::ffff:127.0.0.9\r\n", 200),
        ("X-Forwarded-For: 10.1.2.3, 192.0.2.1, 127.0.0.9\r\n", 403),
        ("X-Forwarded-For: 10.1.2.3, nonsense, 127.0.0.9\r\n", 403),
        ("X-Forwarded-For: 127.0.0.9\r\n", 403),
        ("X-Forwarded-For: nonsense\r\n", 403),
        ("", 403),
    ] {
        assert_eq!(get(&gateway, "/mail", line).await.status, status, "{line}");
    }
}

#[tokio::test]
async fn a_websocket_needs_what_any_other_request_needs() {
    let (_mail, gateway) = asking(r#"{"keys":{}}"#).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n";
    assert_eq!(get(&gateway, "/mail", upgrade).await.code(), (401, "credentials_missing".to_owned()));
}

#[tokio::test]
async fn a_key_whose_time_is_over_is_refused_as_that() {
    let (mail, mut gateway) = asking(r#"{"keys":{}}"#).await;
    let until = |moment: &str| key("mail").replace('}', &format!(r#","expires":"{moment}"}}"#));
    gateway.set_access_key("ci", Some(&until("2020-01-01T00:00:00Z")));
    let refused = get(&gateway, "/mail", "Authorization: Bearer abc\r\n").await;
    assert_eq!(refused.code(), (401, "expired".to_owned()));
    assert!(refused.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    gateway.set_access_key("ci", Some(&until("2120-01-01T00:00:00Z")));
    assert_eq!(get(&gateway, "/mail", "Authorization: Bearer abc\r\n").await.status, 200);
    assert_eq!(mail.requests().len(), 1);
}

#[tokio::test]
async fn a_tunnel_ends_when_its_key_does_or_the_service_asks_for_something_else_and_else_stays() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mail = Upstream::start(move |_| Reply::raw(switching)).await;
    let mut gateway = Gateway::before(&[mail.address()], &[]);
    let policy = |rest: &str| format!(r#"{{"auth":{{"keys":{{}}{rest}}}}}"#);
    gateway.set_policy("mail", &policy(""));
    gateway.set_access_key("ci", Some(&key("mail")));
    // SHA-256 of `a`.
    let other = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
    gateway.set_access_key("stays", Some(&key("mail").replace(ABC, other)));
    let open = async |gateway: &Gateway, key: &str| {
        let mut client = gateway.connect().await;
        let upgrade = "GET /mail HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        client.send(format!("{upgrade}Authorization: Bearer {key}\r\n\r\n")).await;
        assert_eq!(client.head_only().await.status, 101);
        client
    };
    let (mut revoked, mut stays) = (open(&gateway, "abc").await, open(&gateway, "a").await);
    // What does not concern it is no reason.
    gateway.set_policy("mail", &policy("").replace("{\"auth\"", r#"{"limits":{"body_max_bytes":7},"auth""#));
    gateway.set_access_key("ci", None);
    assert!(revoked.is_closed().await);
    wait_until("the end of one tunnel only", SOON, async || mail.connections_open() == 1).await;
    assert!(stays.try_send("still here").await);
    gateway.set_policy("mail", &policy(r#","networks":{"deny":["127.0.0.0/8"]}"#));
    assert!(stays.is_closed().await);
    wait_until("the end of the other", SOON, async || mail.connections_open() == 0).await;
}

#[tokio::test]
async fn a_refused_body_leaves_the_connection_usable() {
    let (_mail, mut gateway) = asking(r#"{"keys":{}}"#).await;
    gateway.set_access_key("ci", Some(&key("mail")));
    let mut client = gateway.connect().await;
    let refused = client.ask("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(refused.status, 401);
    let post = "POST /mail HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(client.ask(post).await.status, 200);
}

#[tokio::test]
async fn a_key_is_revoked_at_every_gateway_within_a_second_and_known_after_a_restart_without_etcd() {
    let mail = Upstream::named("mail").await;
    let mut etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let option = format!("--snapshot-file={}", folder.path().join("table.json").display());
    etcd.etcdctl(&["put", "service/mail/0", &mail.address().to_string()]);
    etcd.etcdctl(&["put", "config/mail", r#"{"auth":{"keys":{"header":"x-api-key"}}}"#]);
    let mut one = Program::start(etcd.dir(), &etcd.endpoint(0), &[&option]).await;
    let other = Program::start(etcd.dir(), &etcd.endpoint(0), &[]).await;
    let ask = "GET /mail HTTP/1.1\r\nHost: a\r\nX-Api-Key: abc\r\n\r\n";
    let status = async |program: &Program| crate::support::Client::connect(program.address).await.ask(ask).await.status;
    wait_until("the policy", SOON, async || status(&one).await == 401 && status(&other).await == 401).await;
    etcd.etcdctl(&["put", "config/key/ci", &key("mail")]);
    wait_until("the key", SOON, async || status(&one).await == 200 && status(&other).await == 200).await;
    etcd.etcdctl(&["del", "config/key/ci"]);
    let revoked = std::time::Instant::now();
    wait_until("the end of the key", SOON, async || status(&one).await == 401 && status(&other).await == 401).await;
    assert!(revoked.elapsed() < std::time::Duration::from_secs(1), "{:?}", revoked.elapsed());
    etcd.etcdctl(&["put", "config/key/ci", &key("mail")]);
    wait_until("the key", SOON, async || status(&one).await == 200).await;
    assert_eq!(one.terminate(), Some(0));
    etcd.kill(0);
    let one = Program::start(folder.path(), &etcd.endpoint(0), &[&option]).await;
    assert_eq!(status(&one).await, 200);
}
