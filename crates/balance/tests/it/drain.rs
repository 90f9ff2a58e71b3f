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
    for (client, conversation) in &mut all {
        conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let answer = client.answer().await;
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("ok", Some("close")));
        assert!(client.is_closed().await);
    }
    timeout(SOON, gateway.workers.ended()).await.expect("the workers end with their last request");
}

#[tokio::test]
async fn whoever_comes_while_requests_are_under_way_is_answered_for_the_last_time() {
    let (mut upstream, users) = (Upstream::listen().await, Upstream::named("userlist").await);
    let mut gateway = Gateway::before(&[upstream.address()], &["--workers=2", "--drain-timeout=1h"]);
    gateway.register("service/userlist/0", &users.address().to_string());
    let (mut client, mut conversation) = under_way(&gateway, &mut upstream).await;
    gateway.workers.drain();
    let began = Instant::now();
    // Far longer than a gateway with nothing to do listens.
    while began.elapsed() < Duration::from_secs(2) {
        let answer = gateway.get("/userlist").await;
        assert_eq!((answer.text().as_str(), answer.header("connection")), ("userlist", Some("close")));
    }
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
    timeout(SOON, gateway.workers.ended()).await.expect("nothing is left to wait for");
    assert!(TcpStream::connect(gateway.address()).await.is_err());
}

#[tokio::test]
async fn clients_that_never_stop_do_not_hold_up_the_end_and_none_is_dropped() {
    let upstream = Upstream::named("mail").await;
    let mut gateway = Gateway::before(&[upstream.address()], &["--workers=2", "--drain-timeout=1h"]);
    let address = gateway.address();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let mut answered = 0;
                while let Ok(stream) = TcpStream::connect(address).await {
                    let mut client = Client::from(stream);
                    client.try_send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    assert_eq!(client.answer().await.status, 200, "accepted is answered");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    wait_until("traffic", SOON, async || upstream.requests().len() > 100).await;
    gateway.workers.drain();
    timeout(SOON, gateway.workers.ended()).await.expect("the end comes although there is always a request under way");
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn the_last_ones_before_the_time_is_up_are_answered() {
    let (mut upstream, users) = (Upstream::listen().await, Upstream::named("userlist").await);
    let mut gateway = Gateway::before(&[upstream.address()], &["--drain-timeout=3s"]);
    gateway.register("service/userlist/0", &users.address().to_string());
    let (_client, _conversation) = under_way(&gateway, &mut upstream).await;
    gateway.workers.drain();
    let mut answered = 0;
    while let Ok(stream) = TcpStream::connect(gateway.address()).await {
        let mut client = Client::from(stream);
        client.try_send("GET /userlist HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
        answered += 1;
    }
    assert!(answered > 0);
    timeout(SOON, gateway.workers.ended()).await.expect("an end, although a request never ends");
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
