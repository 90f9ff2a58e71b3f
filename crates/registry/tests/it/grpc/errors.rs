//! What is refused, and how that is said.

use std::io::Write as _;

use muster_proto::v1::DeregisterRequest;
use reqwest::Method;
use service_kit::tokens::NewToken;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Client, heartbeat, next, reason};
use crate::support::{Registry, keys};

fn refused(status: &Status) -> (Code, String) {
    (status.code(), reason(status))
}

fn expected(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

#[tokio::test]
async fn what_is_wrong_is_named_by_code_reason_and_field() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let client = Client::of(&registry).await;
    let mut bad = heartbeat("Mail/a", "");
    let status = client.beat(bad.clone()).await.unwrap_err();
    assert_eq!(refused(&status), expected(Code::InvalidArgument, "invalid_field"));
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "service");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.metadata["http_status"].as_str()), ("muster", "422"));
    assert!(!status.get_details_request_info().unwrap().request_id.is_empty());

    bad = heartbeat("mail/a", "");
    bad.instance.as_mut().unwrap().zone = "x".repeat(70_000);
    assert_eq!(client.beat(bad).await.unwrap_err().code(), Code::OutOfRange, "more than 64 KiB");
    let status = client.watch("mail", -1).await.unwrap_err();
    assert_eq!(refused(&status), expected(Code::InvalidArgument, "invalid_field"));
    let unknown =
        registry.ask_with(Method::POST, "/muster.v1.Registry/Forget", Some(("content-type", "application/grpc")), "");
    let answer = unknown.await;
    assert_eq!((answer.status.as_u16(), answer.headers["grpc-status"].to_str().unwrap()), (200, "12"), "unimplemented");
    let plain = registry.ask(Method::POST, "/muster.v1.Registry/Forget", "").await;
    assert_eq!((plain.status.as_u16(), plain.code()), (404, "no_such_path"), "over HTTP as ever");
}

#[tokio::test]
async fn of_two_lives_the_later_one_has_the_id_and_the_other_one_is_told() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let client = Client::of(&registry).await;
    let first = client.beat(heartbeat("mail/a", "new")).await.unwrap();
    let second = client.beat(heartbeat("mail/a", "new")).await.unwrap();
    let status = client.beat(heartbeat("mail/a", &first.incarnation)).await.unwrap_err();
    assert_eq!(refused(&status), expected(Code::Aborted, "another_incarnation"));
    let mut beats = client.register().await.unwrap();
    assert!(beats.say(heartbeat("mail/a", &second.incarnation)).await.unwrap().other_holder.is_some());
    // The first refusal is the end of a stream.
    assert_eq!(refused(&beats.say(heartbeat("mail/a", &first.incarnation)).await.unwrap_err()).0, Code::Aborted);
    assert!(beats.say(heartbeat("mail/a", &second.incarnation)).await.is_err());
}

#[tokio::test]
async fn without_etcd_calls_are_unavailable_and_say_when_to_come_again() {
    let registry = Registry::without_etcd().await;
    let client = Client::of(&registry).await;
    let status = client.register().await.unwrap().say(heartbeat("mail/a", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().metadata["http_status"], "503");
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(wait, registry::error::RETRY_AFTER);
    for status in [client.list("mail").await.unwrap_err(), client.watch("mail", 0).await.unwrap_err()] {
        assert_eq!(refused(&status), expected(Code::Unavailable, "not_loaded"), "not an empty list");
    }
}

#[tokio::test]
async fn a_token_opens_what_it_is_for_and_a_withdrawn_one_ends_a_stream() {
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let mail = NewToken::random("mail", &["mail:register".parse().unwrap()], false).unwrap();
    let reader = NewToken::random("reader", &["mail:read".parse().unwrap()], false).unwrap();
    std::fs::write(&file, format!("{}\n{}\n", mail.line, reader.line)).unwrap();
    let registry = Registry::start_with(&etcd, |config| config.admission.tokens_file = Some(file.clone())).await;
    let stranger = Client::of(&registry).await;
    let client = stranger.with_token(&mail.secret);
    let status = stranger.list("mail").await.unwrap_err();
    assert_eq!(refused(&status), expected(Code::Unauthenticated, "token_missing"));
    let status = stranger.with_token("muster_x").list("mail").await.unwrap_err();
    assert_eq!(refused(&status), expected(Code::Unauthenticated, "token_unknown"));

    let mut beats = client.register().await.unwrap();
    beats.say(heartbeat("mail/a", "")).await.unwrap();
    let status = client.beat(heartbeat("web/a", "")).await.unwrap_err();
    assert_eq!(refused(&status), expected(Code::PermissionDenied, "out_of_scope"));
    let other = DeregisterRequest { service: "web".to_owned(), id: "a".to_owned(), ..DeregisterRequest::default() };
    let status = client.calls.clone().deregister(client.request(other)).await.unwrap_err();
    assert_eq!(refused(&status), expected(Code::PermissionDenied, "out_of_scope"));
    for status in [client.list("mail").await.unwrap_err(), client.watch("mail", 0).await.unwrap_err()] {
        assert_eq!(refused(&status), expected(Code::PermissionDenied, "out_of_scope"), "register is not read");
    }
    let reading = stranger.with_token(&reader.secret);
    assert_eq!(reading.list("mail").await.unwrap().len(), 1);
    assert!(next(&mut reading.watch("mail", 0).await.unwrap()).await.unwrap().reset);
    assert_eq!(refused(&reading.list("").await.unwrap_err()), expected(Code::PermissionDenied, "out_of_scope"));
    assert_eq!(refused(&reading.list("web").await.unwrap_err()).0, Code::PermissionDenied);

    let mut written = std::fs::File::create(&file).unwrap();
    writeln!(written, "{}", reader.line).unwrap();
    drop(written);
    let beats = tokio::sync::Mutex::new(beats);
    let say = async || beats.lock().await.say(heartbeat("mail/a", "")).await.err();
    let last = wait_for("the end of the stream", SOON, say).await;
    assert_eq!(refused(&last), expected(Code::Unauthenticated, "token_unknown"));
    assert_eq!(keys(&etcd), ["service/mail/a"], "until its lease ends");
}

#[tokio::test]
async fn each_message_of_a_stream_counts_against_the_rate_of_its_client() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start_with(&etcd, |config| config.admission.client_rate = 5).await;
    let client = Client::of(&registry).await;
    let mut beats = client.register().await.unwrap();
    let mut taken = 0;
    let status = loop {
        match beats.say(heartbeat("mail/a", "")).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
        assert!(taken < 1000, "there is a bound");
    };
    assert_eq!(refused(&status), expected(Code::ResourceExhausted, "rate_limited"));
    assert!(taken > 0 && status.get_details_retry_info().is_some());
}
