//! Consul's clients, unchanged, and what its paths answer.

use std::{path::Path, time::Duration};

use reqwest::Method;
use serde_json::json;
use testkit::{
    etcd::EtcdCluster,
    python::{python, succeed},
    wait::{SOON, wait_until},
};

use crate::{
    scraper::Scraper,
    support::{Registry, instance_path, keys, value},
};

#[tokio::test]
async fn py_consul_registers_heartbeats_looks_waits_and_leaves() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut client = python("python");
    client.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/consul_client.py"));
    client.arg(registry.url.strip_prefix("http://").unwrap());
    let output = succeed(client, Duration::from_secs(60)).await;
    assert_eq!(output.lines().last(), Some("all of it"), "{output}");
    assert_eq!(keys(&etcd), [""; 0], "nothing is left behind");
}

#[tokio::test]
async fn consul_sd_configs_find_instances_as_in_a_consul() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let scraped = Registry::start(&etcd).await;
    let address = registry.url.strip_prefix("http://").unwrap();
    let instance = scraped.url.strip_prefix("http://").unwrap();
    let body = json!({ "address": instance, "ttl_ms": 600_000, "tags": ["blue"] }).to_string();
    registry.beat("web/0", &body).await;
    let scraper = Scraper::victoria_metrics(&format!(
        "  consul_sd_configs: [{{ server: '{address}' }}]
  relabel_configs:
  - {{ source_labels: [__meta_consul_service], target_label: service }}
  - {{ source_labels: [__meta_consul_tags], regex: '.*,blue,.*', action: keep }}"
    ));
    scraper.wait_for_up("web", 1).await;
    // Found through a blocking query: it waits, and is told.
    registry.beat("late/0", &body).await;
    scraper.wait_for_up("late", 1).await;
    registry.delete(&instance_path("web/0")).await.accepted();
    scraper.wait_for_up("web", 0).await;
    scraper.wait_for_up("late", 1).await;
}

#[tokio::test]
async fn lists_have_the_shape_and_the_headers_of_consul() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let full = r#"{"address":"10.0.0.5:7070","weight":2,"tags":["v1"],"meta":{"a":"b"}}"#;
    let revision = registry.beat("mail/mail-1", full).await["revision"].clone();
    etcd.etcdctl(&["put", "service/web", "10.0.0.9:80"]);
    wait_until("both are listed", SOON, async || registry.instances("web").await.len() == 1).await;

    let services = registry.get("/v1/catalog/services").await;
    assert_eq!(services.body, json!({ "mail": ["v1"], "web": [] }));
    assert!(services.headers["x-consul-index"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(services.headers["x-consul-knownleader"], "true");
    assert!(services.headers.contains_key("x-consul-lastcontact"));

    let listed = registry.get("/v1/catalog/service/mail?dc=dc1&stale=&near=_agent").await;
    assert_eq!(listed.headers["x-consul-index"].to_str().unwrap(), revision.to_string());
    assert_eq!(
        listed.accepted(),
        json!([{
            "ID": "", "Node": "mail-1", "Address": "10.0.0.5", "Datacenter": "dc1", "TaggedAddresses": {},
            "NodeMeta": {}, "CreateIndex": revision, "ModifyIndex": revision, "ServiceAddress": "10.0.0.5",
            "ServiceEnableTagOverride": false, "ServiceID": "mail-1", "ServiceName": "mail", "ServicePort": 7070,
            "ServiceMeta": { "a": "b" }, "ServiceTags": ["v1"], "ServiceWeights": { "Passing": 2, "Warning": 1 },
        }])
    );
    assert_eq!(registry.get("/v1/catalog/service/web").await.accepted()[0]["ServiceID"], "web", "the nameless one");
    let drain = format!("{}/override", instance_path("mail/mail-1"));
    registry.ask(Method::PUT, &drain, r#"{"status":"draining"}"#).await.accepted();
    let index = revision.to_string();
    let drained = registry.get(&format!("/v1/health/service/mail?index={index}&wait=20s")).await.accepted();
    assert_eq!(drained[0]["Checks"][0]["Status"], "critical", "as in maintenance");
    assert_eq!(drained[0]["Checks"][0]["Output"], "draining");
    assert_eq!(registry.get("/v1/health/service/mail?passing=1").await.accepted(), json!([]));
    let refused = registry.get("/v1/health/service/mail?filter=Service.Meta.a==b").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (400, "no_filters"), "not silently ignored");
}

#[tokio::test]
async fn registering_again_keeps_the_state_of_the_check() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let register = async |replica: usize, body: serde_json::Value| {
        let answer =
            replicas[replica].ask_until_answered(Method::PUT, "/v1/agent/service/register", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    };
    let body = json!({ "Name": "mail", "ID": "x", "Address": "10.0.0.5", "Port": 7070, "Check": { "TTL": "30s" } });
    let stored = || value(&etcd, "service/mail/x").unwrap();
    register(0, body.clone()).await;
    assert!(stored().ends_with("?status=critical"), "until it says that it is well");
    replicas[0].ask_until_answered(Method::PUT, "/v1/agent/check/pass/service:x", "").await.accepted();
    replicas[1].wait_for_instance("mail", "x", true).await;
    wait_until("the other replica knows", SOON, async || {
        replicas[1].instances("mail").await["x"]["status"] == "passing"
    })
    .await;
    for replica in [0, 1, 0] {
        let mut again = body.clone();
        again["Tags"] = json!([format!("r{replica}")]);
        register(replica, again).await;
        assert_eq!(stored(), format!("http://10.0.0.5:7070?tag=r{replica}"), "passing, with what is new");
    }
    replicas[0].ask_until_answered(Method::PUT, "/v1/agent/check/fail/service:x", "").await.accepted();
    let mut passing = body.clone();
    passing["Check"]["Status"] = json!("passing");
    register(0, passing.clone()).await;
    assert!(stored().contains("status=critical"), "the report counts, as in Consul");
    passing["Address"] = json!("10.0.0.6");
    register(0, passing).await;
    assert_eq!(stored(), "10.0.0.6:7070", "one that has moved is another program");
}

#[tokio::test]
async fn a_check_is_reported_by_the_id_that_it_was_registered_with_at_any_replica() {
    let etcd = EtcdCluster::start(1).await;
    let replicas = [Registry::start(&etcd).await, Registry::start(&etcd).await];
    let tcp = json!({ "TCP": "10.0.0.5:7070", "Interval": "10s" });
    for (id, checks, check) in [
        ("a", json!([{ "TTL": "30s", "CheckID": "alive" }]), "alive"),
        ("b", json!([tcp, { "TTL": "30s" }]), "service:b:2"),
        ("10.0.0.5:1", json!([{ "TTL": "30s" }]), "service:10.0.0.5:1"),
    ] {
        let body = json!({ "Name": "mail", "ID": id, "Address": "10.0.0.5", "Port": 7070, "Checks": checks });
        let answer = replicas[0].ask_until_answered(Method::PUT, "/v1/agent/service/register", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        let path = format!("/v1/agent/check/pass/{check}");
        replicas[0].ask_until_answered(Method::PUT, &path, "").await.accepted();
        replicas[1].wait_for_instance("mail", id, true).await;
        replicas[1].ask_until_answered(Method::PUT, &path, "").await.accepted();
        let is_passing = async || {
            let list = replicas[1].get("/v1/health/service/mail?passing").await.accepted();
            let entry = list.as_array().unwrap().iter().find(|entry| entry["Service"]["ID"] == id).cloned();
            entry.is_some_and(|entry| entry["Checks"][0]["CheckID"] == check && entry["Service"]["Meta"] == json!({}))
        };
        wait_until("it is passing, under its check's id", SOON, is_passing).await;
    }
    assert_eq!(replicas[0].ask_until_answered(Method::PUT, "/v1/agent/check/pass/dead", "").await.status, 404);
    let refused = replicas[0].get("/v1/health/service/mail?node-meta=a:b").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (400, "no_filters"));
}

#[tokio::test]
async fn a_check_keeps_an_instance_as_it_was_registered_and_an_id_that_two_have_is_refused() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let body = json!({ "Name": "mail", "ID": "x", "Port": 7070, "Check": { "TTL": "30s", "Status": "passing" } });
    let register = registry.ask(Method::PUT, "/v1/agent/service/register", body.to_string()).await;
    assert_eq!(register.status, 200, "{:?}", register.body);
    assert_eq!(value(&etcd, "service/mail/x").as_deref(), Some("127.0.0.1:7070"), "the client's own address");
    let check = async |path: &str, body: &str| {
        let answer = registry.ask(Method::PUT, &format!("/v1/agent/check/{path}"), body.to_owned()).await;
        (answer.status.as_u16(), answer.code().to_owned())
    };
    let done = (200, String::new());
    assert_eq!(check("fail/service:x", "").await, done);
    assert_eq!(value(&etcd, "service/mail/x").as_deref(), Some("http://127.0.0.1:7070?status=critical"));
    assert_eq!(check("update/x", r#"{"Status":"passing","Output":"fine"}"#).await, done);
    assert_eq!(value(&etcd, "service/mail/x").as_deref(), Some("127.0.0.1:7070"));
    assert_eq!(check("warn/x?note=the+disk+is+nearly+full", "").await, done);
    let warned = value(&etcd, "service/mail/x");
    assert_eq!(warned.as_deref(), Some("http://127.0.0.1:7070?degraded=the%20disk%20is%20nearly%20full"));
    wait_until("the warning is listed", SOON, async || {
        let listed = registry.get("/v1/health/service/mail?passing").await.accepted();
        let check = &listed[0]["Checks"][0];
        check["Status"] == "warning" && check["Output"] == "degraded: the disk is nearly full"
    })
    .await;
    assert_eq!(check("update/x", r#"{"Status":"critical","Output":"full\n"}"#).await, done);
    assert_eq!(value(&etcd, "service/mail/x").as_deref(), Some("http://127.0.0.1:7070?status=critical&reason=full"));
    assert_eq!(check("pass/x", "").await, done);
    assert_eq!(check("update/x", r#"{"Status":"splendid"}"#).await, (422, "invalid_field".to_owned()));
    assert_eq!(check("pass/y", "").await, (404, "no_such_instance".to_owned()));

    registry.beat("web/x", r#"{"address":"10.0.0.5:7070"}"#).await;
    assert_eq!(check("pass/x", "").await, (409, "ambiguous_id".to_owned()));
    let mut etcd = etcd;
    etcd.kill(0);
    let refused = registry.get("/v1/catalog/services").await;
    assert_eq!(refused.status, 200, "old, and saying so");
    wait_until("no leader is known", SOON, async || {
        registry.get("/v1/catalog/services").await.headers["x-consul-knownleader"] == "false"
    })
    .await;
    assert_eq!(check("fail/web", "").await.0, 404, "by what is known");
}
