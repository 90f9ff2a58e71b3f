//! The last answer of a connection can be read, whatever its client is sending meanwhile.

use std::time::{Duration, Instant};

use testkit::upstream::Upstream;

use crate::support::Gateway;

#[tokio::test]
async fn a_refused_upload_may_take_its_time() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &["--body-max-bytes=1000"]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n").await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        // Fails as soon as the connection was reset.
        client.send(vec![b'x'; 10_000]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.code(), answer.header("connection")), ((413, "body_too_large".to_owned()), Some("close")));
}

#[tokio::test]
async fn a_header_that_is_refused_may_take_its_time() {
    let gateway = Gateway::start();
    let mut client = gateway.connect().await;
    client.send(format!("GET /mail HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(33_000))).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        client.send("xxxxxxxx").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.answer().await.code(), (431, "header_too_large".to_owned()));
}

#[tokio::test]
async fn the_last_answer_of_a_drained_connection_survives_what_its_client_sent_beforehand() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    gateway.workers.drain();
    // More of the next request than the gateway takes in beforehand.
    client
        .send(format!("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(200_000)))
        .await;
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "ok");
    let (rest, end) = client.end().await;
    assert_eq!((rest.len(), end.expect("closed, and not reset")), (0, 0));
}
