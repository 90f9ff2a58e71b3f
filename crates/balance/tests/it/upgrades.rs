//! Tunnels: WebSocket and other upgrades pass, once the instance has agreed and not before.

use testkit::upstream::{Reply, Upstream};

use crate::support::Gateway;

const UPGRADE: &str =
    "GET /mail/chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: v\r\n\r\n";

#[tokio::test]
async fn bytes_pass_both_ways_after_a_101_and_each_direction_ends_by_itself() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send(UPGRADE).await;
    let mut conversation = upstream.accept().await;
    let request = conversation.read_request().await.unwrap().unwrap();
    assert_eq!((request.header("connection"), request.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(request.header("sec-websocket-key"), Some("k"));
    // The first frame comes in one piece with the head.
    conversation.write([SWITCHING.as_bytes(), b"\x81\x05hello"].concat()).await;
    let head = client.head_only().await;
    assert_eq!(
        (head.status, head.header("upgrade"), head.header("connection")),
        (101, Some("websocket"), Some("upgrade"))
    );
    assert_eq!(head.header("sec-websocket-accept"), Some("v"));
    assert_eq!(client.read(7).await, b"\x81\x05hello");
    client.send(b"\x88\x00GET / HTTP/1.1\r\n\r\n").await;
    let mut arrived = Vec::new();
    while arrived.len() < 20 {
        arrived.extend(conversation.read_some().await);
    }
    assert_eq!(arrived, b"\x88\x00GET / HTTP/1.1\r\n\r\n", "nothing is understood any more");
    drop(client);
    conversation.closed().await;
}

#[tokio::test]
async fn nothing_of_a_tunnel_passes_before_the_instance_has_agreed() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    client.send(format!("{UPGRADE}GET /mail/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
    assert_eq!(client.answer().await.text(), "no", "an instance may decline");
    // What followed was the next request, and not the tunnel's.
    let next = conversation.read_request().await.unwrap().unwrap();
    assert_eq!((next.target.as_str(), next.header("upgrade")), ("/smuggled", None));
}

#[tokio::test]
async fn a_request_with_a_body_and_an_upgrade_to_http_2_are_ordinary_requests() {
    let upstream = Upstream::named("mail").await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for request in [
        "GET /mail HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
        "POST /mail HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi",
        "GET /mail HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert_eq!(gateway.ask(request).await.text(), "mail");
        assert_eq!(upstream.requests().last().unwrap().header("upgrade"), None, "{request}");
    }
}

#[tokio::test]
async fn an_instance_that_changes_to_something_else_is_502() {
    let upstream =
        Upstream::start(|_| Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n")).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    assert_eq!(gateway.ask(UPGRADE).await.code(), (502, "upstream_malformed".to_owned()));
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &["--tunnel-idle-timeout=500ms"]);
    let mut client = gateway.connect().await;
    client.send(UPGRADE).await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write(SWITCHING).await;
    assert_eq!(client.head_only().await.status, 101);
    assert!(client.is_closed().await);
    conversation.closed().await;
}

#[tokio::test]
async fn the_last_frame_of_an_instance_that_closes_arrives_every_time() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for n in 0..100 {
        let mut client = gateway.connect().await;
        client.send(UPGRADE).await;
        let mut conversation = upstream.accept().await;
        conversation.read_request().await.unwrap().unwrap();
        conversation.write(SWITCHING).await;
        assert_eq!(client.head_only().await.status, 101);
        // What the instance has not read when it closes makes its kernel reset the connection.
        let last_words = async {
            conversation.read_some().await;
            conversation.write(b"\x88\x02\x03\xe8").await;
            drop(conversation);
        };
        let chatter = async {
            for _ in 0..50 {
                client.try_send([0; 10_000]).await;
            }
        };
        tokio::join!(last_words, chatter);
        let (heard, end) = client.end().await;
        assert_eq!(heard, b"\x88\x02\x03\xe8", "round {n}, which ended with {end:?}");
    }
}

#[tokio::test]
async fn the_last_frame_of_a_client_that_closes_arrives_every_time() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for n in 0..100 {
        let mut client = gateway.connect().await;
        client.send(UPGRADE).await;
        let mut conversation = upstream.accept().await;
        conversation.read_request().await.unwrap().unwrap();
        conversation.write(SWITCHING).await;
        assert_eq!(client.head_only().await.status, 101);
        let last_words = async {
            client.read_some().await;
            client.send(b"\x88\x02\x03\xe8").await;
            drop(client);
        };
        let chatter = async {
            for _ in 0..50 {
                conversation.write([0; 10_000]).await;
            }
        };
        tokio::join!(last_words, chatter);
        assert_eq!(conversation.read_some().await, b"\x88\x02\x03\xe8", "round {n}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_tunnel_when_one_side_has_ended_ends_soon() {
    let mut upstream = Upstream::listen().await;
    let gateway = Gateway::before(&[upstream.address()], &["--half-closed-timeout=500ms"]);
    let mut client = gateway.connect().await;
    client.send(UPGRADE).await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write(SWITCHING).await;
    assert_eq!(client.head_only().await.status, 101);
    client.half_close().await;
    assert_eq!(conversation.read_some().await, b"", "the instance is told");
    conversation.write("answer").await;
    assert_eq!(client.read(6).await, b"answer");
    assert!(client.is_closed().await);
}
