//! Nobody can fill etcd: what one token, one client, one instance and one setting may write is bounded, and so is what all may.

use std::path::PathBuf;

use futures::{StreamExt as _, stream};
use registry::admission::budget::Budget;
use reqwest::Method;
use serde_json::json;
use service_kit::tokens::NewToken;
use testkit::{
    etcd::{EtcdCluster, EtcdConfig},
    wait::{SOON, wait_for, wait_until},
};

use crate::support::{Answer, Registry, instance_path, metric, value};

/// What an etcd may hold in the tests that try to fill it.
const QUOTA_BYTES: usize = 64 * 1024 * 1024;

/// The longest value of a setting.
const LARGE_BYTES: usize = 64 * 1024;

struct Tokens {
    _folder: tempfile::TempDir,
    path: PathBuf,
    secrets: Vec<String>,
}

impl Tokens {
    /// One token for each scope.
    fn of(scopes: &[&str]) -> Self {
        let token = |scope: &&str| NewToken::random(&scope.replace([':', '*'], "-"), &[scope.parse().unwrap()], false);
        let tokens: Vec<NewToken> = scopes.iter().map(|scope| token(scope).unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let lines: Vec<&str> = tokens.iter().map(|token| token.line.as_str()).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let secrets = tokens.iter().map(|token| format!("Bearer {}", token.secret)).collect();
        Self { _folder: folder, path, secrets }
    }
}

/// A heartbeat's body with so many bytes of meta, `n` among them.
fn large_instance(n: usize) -> String {
    let meta: serde_json::Map<_, _> = (0..32).map(|key| (key.to_string(), format!("{n:0>256}").into())).collect();
    json!({ "address": "10.0.0.5:7070", "ttl_ms": 600_000, "meta": meta }).to_string()
}

#[track_caller]
fn assert_refused(answer: &Answer, flag: &str) {
    assert_eq!((answer.status.as_u16(), answer.code()), (429, "too_many_writes"), "{:?}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains(flag), "{:?}", answer.body);
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=1200).contains(&wait), "{wait}");
}

/// Sends `count` writes; how many were taken.
async fn flood(registry: &Registry, auth: &str, count: usize, request: impl Fn(usize) -> (String, String)) -> usize {
    let send = async |n: usize| {
        let (path, body) = request(n);
        registry.ask_with(Method::PUT, &path, Some(("authorization", auth)), body).await.status
    };
    let statuses: Vec<_> = stream::iter(0..count).map(send).buffer_unordered(16).collect().await;
    statuses.iter().filter(|status| status.is_success()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_fills_etcd_neither_with_one_key_nor_with_many() {
    let args = vec![format!("--quota-backend-bytes={QUOTA_BYTES}")];
    let etcd = EtcdCluster::with(EtcdConfig { args, ..EtcdConfig::default() }).await;
    let tokens = Tokens::of(&["mail:config", "web:register"]);
    let registry = Registry::start_with(&etcd, |config| {
        config.admission.tokens_file = Some(tokens.path.clone());
        config.admission.client_rate = 0;
    })
    .await;
    let setting = "x".repeat(LARGE_BYTES);
    let same_setting = flood(&registry, &tokens.secrets[0], 5 * QUOTA_BYTES / LARGE_BYTES / 4, |n| {
        (format!("/v1/config/mail/{}", if n % 2 == 0 { 0 } else { n }), setting.clone())
    })
    .await;
    let size = large_instance(0).len();
    let same_instance =
        flood(&registry, &tokens.secrets[1], 1000, |n| (instance_path("web/a"), large_instance(n))).await;
    let many_instances =
        flood(&registry, &tokens.secrets[1], 1000, |n| (instance_path(&format!("web/{n}")), large_instance(n))).await;
    assert!(same_setting > 0 && same_instance > 0 && many_instances > 0);
    let written = same_setting * LARGE_BYTES + (same_instance + many_instances) * size;
    assert!(written < QUOTA_BYTES / 4, "{written} bytes");
    assert_eq!(etcd.etcdctl(&["alarm", "list"]).trim(), "", "there is room for everybody else");
    let again = async || {
        let auth = Some(("authorization", tokens.secrets[0].as_str()));
        registry.ask_with(Method::PUT, "/v1/config/mail/0", auth, setting.clone()).await
    };
    // A few seconds have made a little room; not for several.
    let refused =
        wait_for("a refusal", SOON, async || Some(again().await).filter(|answer| !answer.status.is_success()));
    assert_refused(&refused.await, "setting-writes");
    assert!(metric(&registry, r#"registry_writes_refused_total{bound="TokenSettings"}"#).await > 0.0);
    assert!(metric(&registry, r#"registry_written_bytes_total{kind="Settings"}"#).await > 1_000_000.0);
}

#[tokio::test]
async fn an_instance_that_changes_too_often_lives_on_as_it_was_and_a_heartbeat_without_a_change_costs_nothing() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| {
        config.admission.writes.instance_writes = Budget::Minute { changes: 1, bytes: 1 << 20 };
    })
    .await;
    let body = |version: usize| json!({ "address": "10.0.0.5:7070", "version": version.to_string() }).to_string();
    let put = async |body: &str| registry.ask_until_answered(Method::PUT, &instance_path("mail/a"), body).await;
    let mut version = 0;
    let refused = loop {
        let answer = put(&body(version)).await;
        if !answer.status.is_success() {
            break answer;
        }
        version += 1;
    };
    assert_refused(&refused, "--instance-writes");
    assert!((20..30).contains(&version), "{version}");
    for _ in 0..20 {
        put(&body(version - 1)).await.accepted();
    }
    let expected = format!("http://10.0.0.5:7070?version={}", version - 1);
    assert_eq!(value(&etcd, "service/mail/a").as_deref(), Some(expected.as_str()));
    registry.beat("mail/b", &body(0)).await;
    let left = registry.ask_until_answered(Method::DELETE, &instance_path("mail/a"), "").await;
    assert_eq!(left.status, 200, "leaving is never refused");
    assert!(metric(&registry, r#"registry_changes_total{kind="Instances"}"#).await >= 15.0);
}

#[tokio::test]
async fn without_tokens_a_client_network_has_its_bound_and_all_together_have_one() {
    let etcd = EtcdCluster::start(1).await;
    let few = Budget::Minute { changes: 1, bytes: 1 << 20 };
    for (flag, of_client) in [("--token-setting-writes", true), ("--all-setting-writes", false)] {
        let registry = Registry::start_with(&etcd, |config| {
            let writes = &mut config.admission.writes;
            *(if of_client { &mut writes.token_setting_writes } else { &mut writes.all_setting_writes }) = few;
        })
        .await;
        let put = async |n: usize| registry.ask_until_answered(Method::PUT, &format!("/v1/config/mail/{n}"), "x").await;
        let mut written = 0;
        let refused = loop {
            let answer = put(written).await;
            if !answer.status.is_success() {
                break answer;
            }
            written += 1;
        };
        assert_refused(&refused, flag);
        assert!((20..30).contains(&written), "{written}");
        let ask = async |method| registry.ask_until_answered(method, "/v1/config/mail/0", "").await.status;
        assert_eq!(ask(Method::GET).await, 200, "reading is free");
        assert_eq!(ask(Method::DELETE).await, 200, "so is making room");
    }
}

#[tokio::test]
async fn what_lives_in_etcd_has_a_bound_for_each_service_and_in_all() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| {
        let writes = &mut config.admission.writes;
        (writes.service_settings_bytes_max, writes.settings_bytes_max) = (1000, 1500);
        (writes.service_bytes_max, writes.instances_bytes_max) = (150, 300);
    })
    .await;
    let text = "x".repeat(600);
    let stored = "too_much_stored";
    let put = async |key: &str| registry.ask_until_answered(Method::PUT, &format!("/v1/config/{key}"), &text).await;
    let is_known = async |key: &str| {
        let listed = registry.get("/v1/config").await.body;
        listed["settings"].as_array().is_some_and(|all| all.iter().any(|one| one["key"] == key))
    };
    put("mail/a").await.accepted();
    wait_until("it is known", SOON, async || is_known("mail/a").await).await;
    put("mail/a").await.accepted();
    let refused = put("mail/b").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, stored), "{:?}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("--service-settings-bytes-max"), "{:?}", refused.body);
    put("web/a").await.accepted();
    wait_until("it is known", SOON, async || is_known("web/a").await).await;
    assert!(put("else/a").await.body["detail"].as_str().unwrap().contains("--settings-bytes-max"));

    let body = |version: &str| json!({ "address": "10.0.0.5:7070", "version": version, "ttl_ms": 60_000 }).to_string();
    for key in ["mail/a", "mail/b", "mail/c"] {
        registry.beat(key, &body("1")).await;
        let (service, id) = key.split_once('/').unwrap();
        registry.wait_for_instance(service, id, true).await;
    }
    let grown = registry.ask_until_answered(Method::PUT, &instance_path("mail/a"), &body(&"1".repeat(64))).await;
    assert_eq!((grown.status.as_u16(), grown.code()), (429, stored), "{:?}", grown.body);
    assert!(grown.body["detail"].as_str().unwrap().contains("--service-bytes-max"), "{:?}", grown.body);
    registry.beat("mail/a", &body("2")).await;
}
