//! Everything is bounded, and whoever meets a bound is told which one.

use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::Gateway;

async fn with_mail(options: &[&str]) -> (Upstream, Gateway) {
    let upstream = Upstream::start(|request| Reply::ok(request.body.len().to_string())).await;
    let gateway = Gateway::before(&[upstream.address()], options);
    (upstream, gateway)
}

#[tokio::test]
async fn a_header_that_is_too_large_is_431_with_a_reason() {
    let (upstream, gateway) = with_mail(&[]).await;
    let large = format!("GET /mail HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(33_000));
    let answer = gateway.ask(&large).await;
    assert_eq!(answer.code(), (431, "header_too_large".to_owned()));
    let fields: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = format!("GET /mail HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let mut client = gateway.connect().await;
    let answer = client.ask(&many).await;
    assert_eq!(answer.code(), (431, "header_too_large".to_owned()));
    assert!(client.is_closed().await);
    let fits = format!("GET /mail HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(30_000));
    assert_eq!(gateway.ask(&fits).await.status, 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_target_that_is_too_long_is_414_and_the_connection_ends() {
    let (_upstream, gateway) = with_mail(&[]).await;
    let mut client = gateway.connect().await;
    let long = format!("GET /mail/{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(8192));
    assert_eq!(client.ask(&long).await.code(), (414, "target_too_long".to_owned()));
    assert!(client.is_closed().await, "where the next request begins was not read");
}

#[tokio::test]
async fn a_declared_body_that_is_too_large_is_413_before_anything_is_sent() {
    let (upstream, gateway) = with_mail(&["--body-max-bytes=1000"]).await;
    let mut client = gateway.connect().await;
    let answer = client.ask("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").await;
    assert_eq!((answer.code(), answer.header("connection")), ((413, "body_too_large".to_owned()), Some("close")));
    assert_eq!(upstream.connections_accepted(), 0);
    let fits = format!("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000));
    assert_eq!(gateway.ask(&fits).await.text(), "1000");
}

#[tokio::test]
async fn a_streamed_body_is_cut_off_at_the_limit() {
    let (upstream, gateway) = with_mail(&["--body-max-bytes=1000"]).await;
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..3 {
        client.try_send(format!("1f4\r\n{}\r\n", "x".repeat(500))).await;
    }
    assert_eq!(client.answer().await.code(), (413, "body_too_large".to_owned()));
    wait_until("the end of the request", SOON, || async { upstream.connections_open() == 0 }).await;
    assert!(upstream.requests().is_empty(), "the instance never gets a whole request");
}

#[tokio::test]
async fn the_answer_arrives_although_the_client_goes_on_sending() {
    let (_upstream, gateway) = with_mail(&["--body-max-bytes=1000"]).await;
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n").await;
    for _ in 0..50 {
        client.try_send(vec![0; 100_000]).await;
    }
    assert_eq!(client.answer().await.code(), (413, "body_too_large".to_owned()));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_the_others_go_on() {
    let (_upstream, gateway) = with_mail(&["--connections-max=2", "--connections-per-client-max=0"]).await;
    let (mut a, mut b) = (gateway.connect().await, gateway.connect().await);
    // A request is under way, as long as its body is.
    let head = "POST /mail HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    for client in [&mut a, &mut b] {
        assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
        client.send(head).await;
        assert_eq!(client.head_only().await.status, 100);
    }
    let mut c = gateway.connect().await;
    let answer = c.answer().await;
    assert_eq!((answer.code(), answer.header("retry-after")), ((503, "overloaded".to_owned()), Some("2")));
    assert!(c.is_closed().await);
    for client in [&mut a, &mut b] {
        client.send("hi").await;
        assert_eq!(client.answer().await.status, 200);
    }
    wait_until("a free place", SOON, async || {
        let mut again = gateway.connect().await;
        again.try_send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
        again.answer().await.status == 200
    })
    .await;
}

#[tokio::test]
async fn who_is_shed_is_told_at_once_and_keeps_the_connection() {
    let upstream = Upstream::start(|_| Reply::Silence).await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    gateway.set_policy("mail", r#"{"breaker":{"in_flight_max":1,"queue_max":0}}"#);
    let mut first = gateway.connect().await;
    first.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    wait_until("the first at the instance", SOON, || async { upstream.connections_open() == 1 }).await;
    let mut shed = gateway.connect().await;
    for request in
        ["GET /mail HTTP/1.1\r\nHost: a\r\n\r\n", "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"]
    {
        let answer = shed.ask(request).await;
        assert_eq!((answer.code(), answer.header("connection")), ((503, "overloaded".to_owned()), None));
    }
}
