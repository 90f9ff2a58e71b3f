//! The orderly end: what was accepted is answered, and then nothing is left.

use std::time::{Duration, Instant};

use testkit::{
    upstream::{Conversation, Upstream},
    wait::{SOON, wait_until},
};
use tokio::{net::TcpStream, time::timeout};

use crate::support::{Client, Gateway};

async fn under_way(gateway: &Gateway, upstream: &mut testkit::upstream::Listener) -> (Client, Conversation) {
    let mut client = gateway.connect().await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    (client, conversation)
}

#[tokio::test]
async fn twenty_requests_under_way_finish_and_say_that_they_were_the_last() {
    let mut upstream = Upstream::listen().await;
    let mut gateway = Gateway::before(&[upstream.address()], &["--workers=2"]);
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(under_way(&gateway, &mut upstream).await);
    }
    gateway.workers.drain();
    wait_until("closed doors", SOON, async || TcpStream::connect(gateway.address()).await.is_err()).await;
    for (client, conversation) in &mut all {
        conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let answer = client.answer().await;
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("ok", Some("close")));
        assert!(client.is_closed().await);
    }
    timeout(SOON, gateway.workers.ended()).await.expect("the workers end with their last request");
}

#[tokio::test]
async fn idle_connections_are_closed_soon() {
    let upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &["--keep-alive=1h", "--drain-timeout=1h"]);
    let mut fresh = gateway.connect().await;
    let mut used = gateway.connect().await;
    assert_eq!(used.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    gateway.workers.drain();
    assert!(fresh.is_closed().await && used.is_closed().await);
    timeout(SOON, gateway.workers.ended()).await.expect("nothing is left to wait for");
}

#[tokio::test]
async fn requests_that_had_arrived_when_the_end_began_are_answered() {
    let upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = gateway.connect().await;
        client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    gateway.workers.drain();
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200, "in the kernel's queue counts as accepted");
    }
    timeout(SOON, gateway.workers.ended()).await.expect("an end");
}

#[tokio::test]
async fn half_a_head_on_a_kept_connection_is_finished_after_the_end_began() {
    let upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    client.send("GET /mail HTTP/1.1\r\nHo").await;
    let mut idle = gateway.connect().await;
    gateway.workers.drain();
    assert!(idle.is_closed().await, "by now a connection without a request would have been closed");
    client.send("st: a\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    timeout(SOON, gateway.workers.ended()).await.expect("an end");
}

#[tokio::test]
async fn requests_that_are_sent_while_the_end_begins_are_answered() {
    let upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &["--workers=2"]);
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut client = gateway.connect().await;
        assert_eq!(client.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
        kept.push(client);
    }
    gateway.workers.drain();
    let began = Instant::now();
    let mut asked = Vec::new();
    // The door is open for twice as long.
    while began.elapsed() < Duration::from_millis(100) {
        let Ok(stream) = TcpStream::connect(gateway.address()).await else { break };
        let mut client = Client::from(stream);
        client.try_send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
        if let Some(mut client) = kept.pop() {
            client.try_send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
            asked.push((client, began.elapsed()));
        }
        asked.push((client, began.elapsed()));
    }
    assert!(!asked.is_empty(), "the door was closed at once");
    // What a busy machine delayed may have come too late.
    for (client, sent) in &mut asked {
        if *sent < Duration::from_millis(150) {
            let answer = client.answer().await;
            assert_eq!(answer.status, 200, "sent {sent:?} after the end began");
        }
    }
    timeout(SOON, gateway.workers.ended()).await.expect("an end");
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_the_end() {
    let mut upstream = Upstream::listen().await;
    let mut gateway = Gateway::before(&[upstream.address()], &["--drain-timeout=300ms"]);
    let (mut client, conversation) = under_way(&gateway, &mut upstream).await;
    gateway.workers.drain();
    timeout(Duration::from_secs(10), gateway.workers.ended()).await.expect("the end comes after the time for draining");
    assert_eq!(client.rest().await, b"");
    conversation.closed().await;
}
