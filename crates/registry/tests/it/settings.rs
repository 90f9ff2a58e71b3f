//! The config centre: revision-checked writes, history, waiting.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};

use crate::support::{Answer, Registry, keys, metric, value};

const FREE: &str = "/v1/config/mail/limits";

impl Registry {
    async fn conditionally(&self, method: Method, path: &str, condition: (&str, &str), body: &str) -> Answer {
        let (name, tag) = condition;
        let request = format!("{} {path} HTTP/1.1\r\n{name}: {tag}", method.as_str());
        self.ask_raw(&request, body).await
    }
}

fn etag(answer: &Answer) -> String {
    answer.headers["etag"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_setting_is_written_read_and_deleted_with_its_revision() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let none = registry.get(FREE).await;
    assert_eq!((none.status.as_u16(), none.code()), (404, "no_such_setting"));
    let written = registry.ask(Method::PUT, FREE, "10 a minute").await;
    assert_eq!(value(&etcd, "config/mail/limits").as_deref(), Some("10 a minute"));
    let read = registry.get(FREE).await;
    assert_eq!((etag(&read), etag(&written)), (format!("\"{}\"", written.body["revision"]), etag(&read)));
    assert_eq!(
        (read.body.as_str(), read.headers["content-type"].to_str().unwrap()),
        (Some("10 a minute"), "text/plain; charset=utf-8")
    );
    let same = registry.conditionally(Method::GET, FREE, ("If-None-Match", &etag(&read)), "").await;
    assert_eq!(same.status, 304);

    wait_until("it is listed", SOON, async || {
        registry.get("/v1/config").await.accepted()["settings"]
            == json!([{ "key": "mail/limits", "revision": written.body["revision"] }])
    })
    .await;
    assert_eq!(registry.delete(FREE).await.accepted()["existed"], true);
    assert_eq!(registry.delete(FREE).await.accepted()["existed"], false);
    assert_eq!(keys(&etcd), [""; 0]);
}

#[tokio::test]
async fn a_write_that_has_not_seen_what_is_there_is_412_and_changes_nothing() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let put = async |condition, body: &str| registry.conditionally(Method::PUT, FREE, condition, body).await;
    let created = put(("If-None-Match", "*"), "1").await;
    assert_eq!(created.status, 200, "{:?}", created.body);
    let again = put(("If-None-Match", "*"), "1").await;
    assert_eq!((again.status.as_u16(), again.code()), (412, "revision_differs"), "also with the same value");
    let first = etag(&created);
    let second = etag(&put(("If-Match", &first), "2").await);
    let late = put(("If-Match", &first), "3").await;
    assert_eq!(late.status, 412);
    assert!(late.body["detail"].as_str().unwrap().contains(second.trim_matches('"')), "{:?}", late.body);
    assert_eq!(value(&etcd, "config/mail/limits").as_deref(), Some("2"));
    assert_eq!(registry.conditionally(Method::DELETE, FREE, ("If-Match", &first), "").await.status, 412);
    assert_eq!(registry.conditionally(Method::DELETE, FREE, ("If-Match", &second), "").await.status, 200);
    for gone in ["*", &second] {
        assert_eq!(put(("If-Match", gone), "4").await.status, 412, "{gone}");
    }
    for (name, tag) in [("If-Match", "\"x\""), ("If-Match", "W/\"3\""), ("If-None-Match", "\"3\"")] {
        let answer = put((name, tag), "5").await;
        assert_eq!((answer.status.as_u16(), answer.field()), (422, name), "{tag}");
    }
}

#[tokio::test]
async fn of_writers_that_race_for_one_revision_one_wins() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await].map(Arc::new);
    let tag = etag(&replicas[0].ask(Method::PUT, FREE, "0").await);
    let writes = (0..20).map(async |n| {
        let answer = replicas[n % 2].conditionally(Method::PUT, FREE, ("If-Match", &tag), &n.to_string()).await;
        answer.status.as_u16()
    });
    let mut statuses = futures::future::join_all(writes).await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, &[412; 19][..]));
}

#[tokio::test]
async fn a_policy_with_a_mistake_is_refused_by_its_place_and_a_key_cannot_leave_its_prefix() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let put = async |path: &str, body: &str| {
        let answer = registry.ask_unchanged(&Method::PUT, path, body).await;
        (answer.status.as_u16(), answer.field().to_owned())
    };
    assert_eq!(put("/v1/config/mail", r#"{"timeouts":{"response":"5s"}}"#).await, (200, String::new()));
    let field = |name: &str| (422, name.to_owned());
    assert_eq!(put("/v1/config/mail", r#"{"timeouts":{"response":"5"}}"#).await, field("timeouts.response"));
    assert_eq!(put("/v1/config/mail", r#"{"timeout":{}}"#).await, field("timeout"));
    assert_eq!(put("/v1/config/mail", "[]").await.0, 422);
    assert_eq!(put("/v1/config/key/ci", r#"{"sha256":"secret","services":["mail"]}"#).await, field("sha256"));
    assert_eq!(value(&etcd, "config/mail").as_deref(), Some(r#"{"timeouts":{"response":"5s"}}"#));
    for key in ["Mail", "a/../b", "a/%2e%2e/b", "a//b", "a%2F/b", "a/b%00", "a/ü"] {
        assert_eq!(put(&format!("/v1/config/{key}"), "x").await, field("key"), "{key}");
    }
    assert_eq!(put("/v1/config/a/%ff", "x").await.0, 400);
    assert_eq!(put("/v1/config/a/b", &"x".repeat(64 * 1024 + 1)).await.0, 413);
    assert_eq!(keys(&etcd), ["config/mail"]);
}

#[tokio::test]
async fn the_history_of_a_setting_is_what_etcd_still_keeps() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut revisions = Vec::new();
    for body in ["one", "two", "three"] {
        let written = registry.ask(Method::PUT, FREE, body).await.accepted();
        revisions.push(written["revision"].as_i64().unwrap());
        registry.ask(Method::PUT, "/v1/config/another/one", body).await.accepted();
    }
    let history = registry.get(&format!("{FREE}?history")).await.accepted();
    let past = |n: usize, value: &str| json!({ "revision": revisions[n], "version": n + 1, "value": value });
    assert_eq!(history, json!({ "complete": true, "history": [past(2, "three"), past(1, "two"), past(0, "one")] }));
    let then = registry.get(&format!("{FREE}?history={}", revisions[1])).await.accepted();
    assert_eq!(then["history"].as_array().unwrap().len(), 2);
    registry.delete(FREE).await.accepted();
    assert_eq!(registry.get(&format!("{FREE}?history")).await.accepted()["history"], json!([]));
    let before = registry.get(&format!("{FREE}?history={}", revisions[2])).await.accepted();
    assert_eq!(before["history"][0]["value"], "three", "what was deleted can be found by a revision when it was there");

    etcd.etcdctl(&["compact", &revisions[2].to_string()]);
    let left = registry.get(&format!("{FREE}?history={}", revisions[2])).await.accepted();
    assert_eq!(left, json!({ "complete": false, "history": [past(2, "three")] }));
}

#[tokio::test]
async fn a_poll_for_a_setting_is_woken_by_its_change_its_deletion_and_its_creation_and_by_nothing_else() {
    let mut etcd = EtcdCluster::start(1).await;
    let registry = Arc::new(Registry::start(&etcd).await);
    let mut index = registry.get(FREE).await.headers["x-muster-index"].to_str().unwrap().to_owned();
    for step in ["created", "changed", "deleted"] {
        let poller = Arc::clone(&registry);
        let path = format!("{FREE}?index={index}&wait=20s");
        let poll = tokio::spawn(async move { poller.get(&path).await });
        wait_until("it waits", SOON, async || metric(&registry, "registry_waiting").await == 1.0).await;
        registry.ask(Method::PUT, "/v1/config/another/one", step).await.accepted();
        wait_until("the other is known", SOON, async || {
            registry.get("/v1/config/another/one?index=1&wait=1s").await.body.as_str() == Some(step)
        })
        .await;
        assert!(!poll.is_finished(), "{step}");
        match step {
            "deleted" => registry.delete(FREE).await.accepted(),
            _ => registry.ask(Method::PUT, FREE, step).await.accepted(),
        };
        let answer = tokio::time::timeout(SOON, poll).await.expect("it is woken").unwrap();
        match step {
            "deleted" => assert_eq!(answer.code(), "no_such_setting"),
            _ => assert_eq!(answer.body.as_str(), Some(step)),
        }
        index = answer.headers["x-muster-index"].to_str().unwrap().to_owned();
    }
    etcd.kill(0);
    assert_eq!(registry.get(FREE).await.status, 503, "what is there is asked of etcd");
    etcd.restart(0).await;
    registry.wait_until_ready().await;
    registry.ask(Method::PUT, FREE, "after").await.accepted();
    wait_until("the mirror follows again", SOON, async || {
        registry.get(&format!("{FREE}?index=1&wait=1s")).await.body.as_str() == Some("after")
    })
    .await;
}
