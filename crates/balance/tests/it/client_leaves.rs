//! A client that goes away takes its request with it; one that has only said everything waits for its answer.

use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};
use tokio::time::timeout;

use crate::support::{Gateway, RealServer};

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_ends_the_request_at_the_instance() {
    let upstream = Upstream::start(|_| Reply::Silence).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    wait_until("the request", SOON, || async { upstream.requests().len() == 1 }).await;
    client.reset();
    wait_until("its end", SOON, || async { upstream.connections_open() == 0 }).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_a_response_ends_it_at_the_instance() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello").await;
    client.head_only().await;
    client.reset();
    timeout(SOON, conversation.closed()).await.expect("the instance's connection ends, and is not used again");
}

#[tokio::test]
async fn a_client_that_leaves_in_its_request_ends_it_at_the_instance() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello").await;
    let mut conversation = upstream.accept().await;
    conversation.read_head().await.unwrap().unwrap();
    drop(client);
    timeout(SOON, conversation.closed()).await.expect("half a request is never completed");
}

#[tokio::test]
async fn an_instance_that_dies_in_a_response_breaks_it_visibly() {
    for framing in ["Content-Length: 1000\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let mut upstream = Upstream::listen().await;
        let gateway = Gateway::before(&[upstream.address()], &[]);
        let mut client = gateway.connect().await;
        client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut conversation = upstream.accept().await;
        conversation.read_request().await.unwrap().unwrap();
        conversation.write(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
        assert_eq!(client.head_only().await.status, 200);
        drop(conversation);
        let rest = client.rest().await;
        assert!(rest.ends_with(b"hello") || rest.ends_with(b"hello\r\n"), "not made to look complete: {rest:?}");
    }
}

const POST: &str = "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn a_client_that_half_closes_after_its_request_gets_its_answer_every_time() {
    let slow = r#"
import time
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    time.sleep(0.05)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"#;
    let gunicorn = RealServer::gunicorn(slow).await;
    let gateway = Gateway::before(&[gunicorn.address], &["--stall-timeout=0s"]);
    for n in 0..20 {
        let mut client = gateway.connect().await;
        client.send(POST).await;
        client.half_close().await;
        let (answer, end) = client.end().await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"), "{n}: {answer:?}");
        assert_eq!(end.unwrap(), 0, "{n}");
    }
}

#[tokio::test]
async fn a_client_that_half_closes_and_then_resets_ends_its_request() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send(POST).await;
    client.half_close().await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    client.reset();
    timeout(SOON, conversation.closed()).await.expect("the request is cancelled");
}

#[tokio::test]
async fn a_client_that_half_closes_in_its_body_has_broken_it() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello").await;
    client.half_close().await;
    assert_eq!(client.answer().await.code(), (400, "malformed_request".to_owned()));
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_client_that_has_half_closed_does_not_hold_a_silent_response_for_long() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &["--half-closed-timeout=500ms"]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.half_close().await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello").await;
    client.head_only().await;
    timeout(SOON, conversation.closed()).await.expect("the instance is let go");
    assert_eq!(gateway.ejected("mail"), 0);
}

#[tokio::test]
async fn requests_before_a_half_close_are_all_answered() {
    let upstream = Upstream::start(|request| Reply::ok(&request.target)).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /mail/2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.half_close().await;
    assert_eq!((client.answer().await.text(), client.answer().await.text()), ("/1".to_owned(), "/2".to_owned()));
    assert!(client.is_closed().await);
}
