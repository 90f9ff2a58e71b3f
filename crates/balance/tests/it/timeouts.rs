//! Nothing waits for ever.

use std::time::{Duration, Instant};

use testkit::{
    chaos_proxy::ChaosProxy,
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::Gateway;

#[tokio::test]
async fn an_instance_that_does_not_answer_is_504_at_the_deadline() {
    let upstream = Upstream::start(|_| Reply::Silence).await;
    let gateway = Gateway::before(&[upstream.address()], &["--response-timeout=500ms"]);
    let started = Instant::now();
    let answer = gateway.get("/mail").await;
    assert_eq!(answer.code(), (504, "upstream_timeout".to_owned()));
    assert!(started.elapsed() >= Duration::from_millis(500));
    let sentence = "mail: its instance did not answer within 500ms".to_owned();
    assert_eq!(answer.problem().1, sentence);
    wait_until("the end of the request", SOON, || async { upstream.connections_open() == 0 }).await;
}

#[tokio::test]
async fn the_deadline_of_the_service_counts_also_after_a_body_that_came_in_pieces() {
    let upstream = Upstream::start(|_| Reply::Silence).await;
    // The gateway's own is the default, which is much longer.
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    gateway.set_policy("mail", r#"{"timeouts":{"response":"500ms"}}"#);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na").await;
    wait_until("the first piece at the instance", SOON, async || upstream.connections_open() == 1).await;
    client.send("b").await;
    let (code, sentence) = client.answer().await.problem();
    assert_eq!(code, "upstream_timeout");
    assert!(sentence.ends_with("did not answer within 500ms"), "{sentence}");
}

#[tokio::test]
async fn a_slow_client_does_not_use_up_the_time_of_the_instance() {
    let upstream = Upstream::start(|request| Reply::ok(&request.body)).await;
    let gateway = Gateway::before(&[upstream.address()], &["--response-timeout=1500ms", "--body-idle-timeout=10s"]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").await;
    for piece in ["a", "b", "c", "d"] {
        tokio::time::sleep(Duration::from_millis(700)).await;
        client.send(piece).await;
    }
    assert_eq!(client.answer().await.text(), "abcd");
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_408() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &["--body-idle-timeout=300ms"]);
    let mut client = gateway.connect().await;
    let answer = client.ask("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await;
    assert_eq!(answer.code(), (408, "body_timeout".to_owned()));
    assert!(client.is_closed().await);
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_head_that_drips_is_408_at_the_deadline() {
    let gateway = Gateway::with(&["--header-timeout=1s"]);
    let mut client = gateway.connect().await;
    let started = Instant::now();
    client.send("GET /mail HTTP/1.1\r\n").await;
    let mut n = 0;
    // A line every tenth of a second: never idle, and never complete.
    while started.elapsed() < Duration::from_secs(10) && client.try_send(format!("X-{n}: 1\r\n")).await {
        tokio::time::sleep(Duration::from_millis(100)).await;
        n += 1;
        if started.elapsed() > Duration::from_millis(1300) {
            break;
        }
    }
    let answer = client.answer().await;
    assert_eq!(answer.code(), (408, "header_timeout".to_owned()));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &["--keep-alive=1s"]);
    let mut fresh = gateway.connect().await;
    let mut used = gateway.connect().await;
    assert_eq!(used.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    assert!(fresh.is_closed().await && used.is_closed().await);
}

#[tokio::test]
async fn a_response_that_falls_silent_is_cut_off() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &["--stream-idle-timeout=300ms"]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n").await;
    assert_eq!(client.head_only().await.status, 200);
    assert_eq!(client.chunk().await.unwrap(), b"he");
    assert_eq!(client.rest().await, b"", "cut off without the chunk that would make it look complete");
    conversation.closed().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &["--stream-idle-timeout=500ms"]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
    let piece = vec![0; 1 << 20];
    let feeding = async {
        for _ in 0..64 {
            conversation.write(&piece).await;
        }
        conversation.closed().await;
    };
    tokio::time::timeout(SOON, feeding).await.expect("the instance is let go");
}

#[tokio::test]
async fn an_instance_that_answers_through_a_slow_network_is_waited_for() {
    let upstream = Upstream::named("mail").await;
    let proxy = ChaosProxy::start(upstream.address()).await;
    proxy.delay(Duration::from_millis(200));
    let gateway = Gateway::before(&[proxy.address()], &[]);
    assert_eq!(gateway.get("/mail").await.text(), "mail");
}
