//! etcd's data: kept over restarts, and whole again after half a start or the loss of a member's folder.

use std::path::Path;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use service_kit::client::HttpClient;
use testkit::wait::{SOON, wait_until};

use crate::suite::{LONG, Suite, process};

/// etcd's JSON gateway; keys and values are in base64: `a2V5` is `key`, `dmFsdWU=` is `value`.
async fn ask(endpoint: &str, what: &str, body: Value) -> Value {
    let request = Request::post(format!("{endpoint}/v3/{what}")).body(Bytes::from(body.to_string())).unwrap();
    let answer = HttpClient::probe().send(request, SOON, 1024 * 1024).await.unwrap();
    assert!(answer.status.is_success(), "{what}: {}", answer.status);
    answer.json().unwrap()
}

async fn put(suite: &Suite) {
    ask(&suite.etcd(), "kv/put", json!({"key": "a2V5", "value": "dmFsdWU="})).await;
}

async fn assert_kept(suite: &Suite) {
    let answer = ask(&suite.etcd(), "kv/range", json!({"key": "a2V5"})).await;
    assert_eq!(answer["kvs"][0]["value"], "dmFsdWU=", "{answer}");
}

/// A program that is etcd for some of the members only; the others never start.
fn etcd_for(suite: &Suite, members: &str) -> String {
    let script = suite.folder().join("etcd-for-some");
    let text =
        format!("#!/bin/sh\ncase \" $* \" in *\" --name \"{members}\" \"*) exec etcd \"$@\";; esac\nexec sleep 600\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    script.to_str().unwrap().to_owned()
}

fn has_data(suite: &Suite, member: &str) -> bool {
    let wal = suite.data().join("etcd").join(member).join("member/wal");
    std::fs::read_dir(wal).is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "wal")))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn data_are_kept_over_a_restart_and_when_the_folder_is_moved() {
    let mut suite = Suite::new();
    suite.start_and_wait().await;
    put(&suite).await;
    suite.stop().await;
    suite.start_and_wait().await;
    assert_kept(&suite).await;
    // Nothing in it knows where it is.
    suite.stop().await;
    let moved = suite.folder().join("elsewhere");
    std::fs::rename(suite.data(), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, suite.data()).unwrap();
    suite.start_and_wait().await;
    assert_kept(&suite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_folder_is_gone_joins_the_others_anew() {
    let mut suite = Suite::new();
    suite.start_and_wait().await;
    put(&suite).await;
    suite.stop().await;
    std::fs::remove_dir_all(suite.data().join("etcd/etcd-2")).unwrap();
    suite.start_and_wait().await;
    let output = suite.output();
    assert!(output.contains("etcd-2 has no data while the other members have: it joins them anew"), "{output}");
    assert_kept(&suite).await;
    let members = ask(&suite.etcd(), "cluster/member/list", json!({})).await;
    let members = members["members"].as_array().unwrap();
    assert_eq!(members.len(), 3, "{members:?}");
    assert!(members.iter().all(|member| member["clientURLs"].is_array()), "all have started: {members:?}");
    // And it is a full member: it alone is asked.
    let second = suite.state()["etcd_endpoints"][1].as_str().unwrap().to_owned();
    let answer = ask(&second, "kv/range", json!({"key": "a2V5", "serializable": true})).await;
    assert_eq!(answer["kvs"][0]["value"], "dmFsdWU=", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_cut_off_after_one_member_comes_up_later() {
    let mut suite = Suite::new();
    let etcd = etcd_for(&suite, "etcd-1");
    suite = suite.with("--etcd", &etcd);
    suite.start();
    wait_until("the first member's log", LONG, async || has_data(&suite, "etcd-1")).await;
    suite.kill();
    suite.without_options();
    suite.start_and_wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_cut_off_after_two_members_comes_up_later() {
    let mut suite = Suite::new();
    let etcd = etcd_for(&suite, "etcd-[12]");
    suite = suite.with("--etcd", &etcd);
    suite.start();
    let two = |state: &Value| ["etcd-1", "etcd-2"].iter().all(|name| process(state, name)["condition"] == "ready");
    suite.wait_for("two members", two).await;
    put(&suite).await;
    suite.kill();
    assert!(!Path::new(&suite.data().join("etcd/etcd-3")).exists());
    suite.without_options();
    suite.start_and_wait().await;
    assert_kept(&suite).await;
}
