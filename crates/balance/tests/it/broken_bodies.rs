//! What breaks after the head of a response counts as what breaks before.

use testkit::{
    upstream::{Conversation, Listener, Reply, Upstream},
    wait::{SOON, wait_until},
};

use crate::support::{Client, Gateway, RealServer};

const GET: &str = "GET /mail HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

fn broken(gateway: &Gateway, reason: &str) -> u64 {
    gateway.metric(&format!("balance_responses_broken{{service=\"mail\",reason=\"{reason}\"}}"))
}

/// A response of which the client has the head, and the instance still owes most.
async fn begun(gateway: &Gateway, upstream: &mut Listener) -> (Client, Conversation) {
    let mut client = gateway.connect().await;
    client.send(GET).await;
    let mut conversation = upstream.accept().await;
    conversation.read_request().await.unwrap().unwrap();
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello").await;
    client.head_only().await;
    (client, conversation)
}

#[tokio::test]
async fn an_instance_that_breaks_every_download_is_ejected() {
    let breaks = r#"
const server = require("http").createServer((request, response) => {
  response.writeHead(200, { "Content-Length": 1000000 });
  response.write(Buffer.alloc(100000), () => setTimeout(() => request.socket.destroy(), 50));
});
server.listen(0, "127.0.0.1", () => console.log(`Listening at: http://127.0.0.1:${server.address().port}`));
"#;
    let (breaks, works) = (RealServer::node(breaks).await, Upstream::start(|_| Reply::ok(vec![b'x'; 1_000_000])).await);
    let mut gateway = Gateway::before(&[breaks.address, works.address()], &[]);
    gateway.set_policy("mail", r#"{"health":{"passive":{"base_ejection":"1m","max_ejection":"1m"}}}"#);
    let mut truncated = 0;
    for _ in 0..40 {
        let mut client = gateway.connect().await;
        client.send(GET).await;
        assert_eq!(client.head_only().await.status, 200);
        let mut body = 0;
        while body < 1_000_000 {
            match client.read_some().await.len() {
                0 => break,
                count => body += count,
            }
        }
        truncated += u64::from(body < 1_000_000);
    }
    assert_eq!(truncated, 2, "after two in a row it is left alone");
    assert_eq!((broken(&gateway, "closed"), gateway.ejected("mail")), (2, 1));
}

#[tokio::test]
async fn a_response_that_is_broken_before_anything_was_sent_is_502_with_the_reason() {
    let upstream =
        Upstream::start(|_| Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n")).await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    for request in [GET, POST] {
        let answer = gateway.ask(request).await;
        assert_eq!(answer.code(), (502, "upstream_malformed".to_owned()));
        assert!(answer.problem().1.ends_with("sent a body that is not framed as its head says"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_response_that_stalls_or_becomes_malformed_is_counted_by_its_kind() {
    for (more, reason) in [("", "stalled"), ("no number\r\n", "malformed")] {
        let mut upstream = Upstream::listen().await;
        let gateway = Gateway::before(&[upstream.address()], &["--stream-idle-timeout=300ms"]);
        let mut client = gateway.connect().await;
        client.send(GET).await;
        let mut conversation = upstream.accept().await;
        conversation.read_request().await.unwrap().unwrap();
        conversation.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n").await;
        assert_eq!(client.head_only().await.status, 200);
        assert_eq!(client.chunk().await.unwrap(), b"he");
        conversation.write(more).await;
        assert_eq!(client.rest().await, b"", "cut off visibly");
        assert_eq!(broken(&gateway, reason), 1, "{reason}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_a_response_is_not_the_fault_of_its_instance() {
    let mut upstream = Upstream::listen().await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    gateway.set_policy("mail", r#"{"health":{"passive":{"consecutive_failures":1}}}"#);
    let (client, conversation) = begun(&gateway, &mut upstream).await;
    client.reset();
    conversation.closed().await;
    let all = ["closed", "stalled", "malformed", "slow_client"].map(|reason| broken(&gateway, reason));
    assert_eq!((all, gateway.ejected("mail")), ([0; 4], 0));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_make_up_for_responses_that_break() {
    let mut upstream = Upstream::listen().await;
    let mut gateway = Gateway::before(&[upstream.address()], &[]);
    gateway.set_policy("mail", r#"{"health":{"passive":{"consecutive_failures":2}}}"#);
    for breaks in [true, false, true] {
        let (mut client, conversation) = begun(&gateway, &mut upstream).await;
        if breaks {
            drop(conversation);
            client.rest().await;
        } else {
            client.reset();
            conversation.closed().await;
        }
    }
    wait_until("the ejection", SOON, async || gateway.ejected("mail") == 1).await;
    assert_eq!(broken(&gateway, "closed"), 2);
}

const UPGRADE: &str = "GET /mail/chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn tunnels_and_event_streams_hold_no_place_and_have_a_bound_of_their_own() {
    for (request, head, status) in [(UPGRADE, SWITCHING, 101), (GET, EVENTS, 200)] {
        let mut upstream = Upstream::listen().await;
        let mut gateway = Gateway::before(&[upstream.address()], &[]);
        gateway.set_policy("mail", r#"{"breaker":{"in_flight_max":1,"queue_max":0,"streams_max":2}}"#);
        let mut streams = Vec::new();
        for n in 0..3 {
            let mut client = gateway.connect().await;
            client.send(request).await;
            let mut conversation = upstream.accept().await;
            conversation.read_request().await.unwrap().unwrap();
            conversation.write(head).await;
            if n < 2 {
                assert_eq!(client.head_only().await.status, status);
                streams.push((client, conversation));
            } else {
                assert_eq!(client.answer().await.code(), (503, "overloaded".to_owned()));
            }
        }
        let mut client = gateway.connect().await;
        client.send("GET /mail/ordinary HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut conversation = upstream.accept().await;
        conversation.read_request().await.unwrap().unwrap();
        conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.answer().await.text(), "ok", "the only place is free");
        let count = || gateway.metric("balance_streams{service=\"mail\"}");
        assert_eq!(count(), 2);
        streams.into_iter().for_each(|(client, _)| client.reset());
        wait_until("the end of the streams", SOON, async || count() == 0).await;
    }
}
