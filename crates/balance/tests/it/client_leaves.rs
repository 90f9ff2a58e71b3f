//! A client that goes away takes its request with it.

use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};
use tokio::time::timeout;

use crate::support::Gateway;

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_ends_the_request_at_the_instance() {
    let upstream = Upstream::start(|_| Reply::Silence).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    wait_until("the request", SOON, || async { upstream.requests().len() == 1 }).await;
    drop(client);
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
    drop(client);
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
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}").into_bytes();
        let upstream = Upstream::start(move |_| Reply::ThenClose(answer.clone())).await;
        let gateway = Gateway::before(&[upstream.address()], &[]);
        let mut client = gateway.connect().await;
        client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.head_only().await.status, 200);
        let rest = client.rest().await;
        assert!(rest.ends_with(b"hello") || rest.ends_with(b"hello\r\n"), "not made to look complete: {rest:?}");
    }
}
