//! What is refused, and how that is said.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use futures::future::join_all;
use muster_proto::v1::{DeregisterRequest, WatchReply};
use reqwest::Method;
use service_kit::tokens::NewToken;
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_for, wait_until},
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{Client, heartbeat, next, reason};
use crate::support::{Registry, exchange, keys, metric};

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

/// A registry with a token that may read `mail`, and the file that it is in.
async fn with_reader(etcd: &EtcdCluster, folder: &Path) -> (Registry, NewToken, PathBuf) {
    let file = folder.join("tokens");
    let reader = NewToken::random("reader", &["mail:read".parse().unwrap()], false).unwrap();
    std::fs::write(&file, &reader.line).unwrap();
    let registry = Registry::start_with(etcd, |config| config.admission.tokens_file = Some(file.clone())).await;
    (registry, reader, file)
}

/// What a watch ends with, whatever came before.
async fn end(watch: &mut Streaming<WatchReply>) -> Status {
    let until_its_end = async {
        loop {
            match watch.message().await {
                Ok(reply) => assert!(reply.is_some(), "it does not end as if nothing were wrong"),
                Err(status) => return status,
            }
        }
    };
    timeout(SOON, until_its_end).await.expect("an end soon")
}

#[tokio::test]
async fn a_watch_ends_when_its_token_is_withdrawn_or_loses_the_scope() {
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let (registry, reader, file) = with_reader(&etcd, folder.path()).await;
    let client = Client::of(&registry).await.with_token(&reader.secret);
    let mut watch = client.watch("mail", 0).await.unwrap();
    assert!(next(&mut watch).await.unwrap().reset);
    std::fs::write(&file, reader.line.replace("mail:read", "web:read")).unwrap();
    assert_eq!(refused(&end(&mut watch).await), expected(Code::PermissionDenied, "out_of_scope"));

    let mut watch = client.watch("web", 0).await.unwrap();
    assert!(next(&mut watch).await.unwrap().reset);
    std::fs::write(&file, "# nobody\n").unwrap();
    assert_eq!(refused(&end(&mut watch).await), expected(Code::Unauthenticated, "token_unknown"));
}

#[tokio::test]
async fn what_waits_over_http_ends_when_its_token_is_withdrawn() {
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let (registry, reader, file) = with_reader(&etcd, folder.path()).await;
    let authorization = format!("Bearer {}", reader.secret);
    let ask = async |path: &str| {
        let header = Some(("authorization", authorization.as_str()));
        registry.ask_within(SOON, Method::GET, path, header, "").await
    };
    etcd.etcdctl(&["put", "config/mail", "{}"]);
    wait_until("the setting is known", SOON, async || ask("/v1/config/mail").await.status == 200).await;
    let setting = ask("/v1/config/mail").await.headers["x-muster-index"].to_str().unwrap().to_owned();
    let list = ask("/v1/services/mail/instances").await.accepted();
    let index = &list["revision"];
    let follower = reqwest::Client::builder().no_proxy().build().unwrap();
    let stream = follower.get(format!("{}/v1/watch?service=mail", registry.url)).bearer_auth(&reader.secret);
    let stream = stream.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let paths = [
        format!("/v1/services/mail/instances?index={index}&wait=5m"),
        format!("/v1/health/service/mail?index={}&wait=5m", index.as_i64().unwrap().max(1)),
        format!("/v1/config/mail?index={setting}&wait=5m"),
    ];
    let withdraw = async {
        wait_until("all of them wait", SOON, async || metric(&registry, "registry_waiting").await == 4.0).await;
        std::fs::write(&file, "# nobody\n").unwrap();
    };
    let asked = join_all(paths.iter().map(|path| ask(path)));
    let (answers, body, ()) = tokio::join!(asked, timeout(SOON, stream.text()), withdraw);
    for answer in answers {
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "token_unknown"), "{:?}", answer.body);
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    let events = body.expect("the stream ends").unwrap();
    assert!(events.contains("event: reset"), "{events}");
}

#[tokio::test]
async fn refused_calls_and_those_that_say_nothing_in_time_are_counted_by_their_code() {
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let (registry, reader, _) = with_reader(&etcd, folder.path()).await;
    let stranger = Client::of(&registry).await;
    assert!(stranger.list("mail").await.is_err());
    let client = stranger.with_token(&reader.secret);
    assert!(client.list("web").await.is_err());
    assert!(client.register().await.is_err());
    client.list("mail").await.unwrap();
    for path in ["/muster.v1.Registry/Forget", "/nowhere"] {
        registry.ask_with(Method::POST, path, Some(("content-type", "application/grpc")), "").await;
    }
    let authority = registry.url.strip_prefix("http://").unwrap();
    let silent = format!(
        "POST /muster.v1.Registry/List HTTP/1.1\r\nHost: {authority}\r\n\
         Content-Type: application/grpc\r\nTE: trailers\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\n",
        reader.secret
    );
    assert!(exchange(authority, silent.as_bytes()).await.contains("grpc-status: 4"));
    let counted = async |method: &str, code: &str| {
        metric(&registry, &format!("registry_calls_total{{method=\"{method}\",code=\"{code}\"}}")).await
    };
    let list = "muster.v1.Registry/List";
    assert_eq!(counted(list, "UNAUTHENTICATED").await, 1.0);
    assert_eq!(counted(list, "PERMISSION_DENIED").await, 1.0);
    assert_eq!(counted("muster.v1.Registry/Register", "PERMISSION_DENIED").await, 1.0);
    assert_eq!(counted(list, "DEADLINE_EXCEEDED").await, 1.0);
    assert_eq!(counted(list, "OK").await, 1.0);
    assert_eq!(counted("", "UNIMPLEMENTED").await, 2.0);
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
