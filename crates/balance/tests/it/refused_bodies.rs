//! An instance that answers from the head and closes has answered: the client reads that answer, whatever became of the body.

use std::net::SocketAddr;

use axum::{Router, http::StatusCode, routing::any};
use testkit::{
    upstream::Upstream,
    wait::{SOON, wait_until},
};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::support::{Gateway, RealServer};

/// The statuses that a body is refused with.
const STATUSES: [u16; 3] = [401, 403, 413];
const UPLOADS: usize = 30;
const UPLOAD_BYTES: usize = 2 << 20;

/// Thirty uploads of 2 MB, each refused from its head by `instance`, which answers GETs with 200 beside it.
async fn every_upload_gets_its_refusal(instance: SocketAddr) {
    let mut gateway = Gateway::before(&[instance], &[]);
    gateway.set_policy("mail", r#"{"health":{"passive":{"consecutive_failures":1}}}"#);
    let body = vec![b'x'; UPLOAD_BYTES];
    let mut statuses = Vec::new();
    for n in 0..UPLOADS {
        let mut client = gateway.connect().await;
        let status = STATUSES[n % STATUSES.len()];
        let head = format!("POST /mail/{status} HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n");
        client.send(head).await;
        let _refused = client.try_send(&body).await;
        statuses.push((client.answer().await.status, status));
    }
    let wrong: Vec<_> = statuses.iter().filter(|(got, sent)| got != sent).collect();
    assert!(wrong.is_empty(), "{} of {UPLOADS} got something else (got, sent): {wrong:?}", wrong.len());
    assert_eq!(gateway.ejected("mail"), 0, "what a client can provoke says nothing about the instance");
}

#[tokio::test]
async fn uploads_that_gunicorn_refuses_get_its_answer() {
    let gunicorn = RealServer::gunicorn(
        r#"
def app(environ, start_response):
    status = environ["PATH_INFO"].strip("/")
    start_response(status + " Refused", [("Content-Length", "2"), ("Connection", "close")])
    return [b"no"]
"#,
    )
    .await;
    every_upload_gets_its_refusal(gunicorn.address).await;
}

#[tokio::test]
async fn uploads_that_node_refuses_get_its_answer() {
    let node = RealServer::node(
        r#"
const server = require("http").createServer((request, response) => {
  response.writeHead(Number(request.url.slice(1)), { "Content-Length": 2, Connection: "close" });
  response.end("no", () => request.socket.destroy());
});
server.listen(0, "127.0.0.1", () => console.log(`Listening at: http://127.0.0.1:${server.address().port}`));
"#,
    )
    .await;
    every_upload_gets_its_refusal(node.address).await;
}

#[tokio::test]
async fn uploads_that_hyper_refuses_get_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |uri: axum::http::Uri| async move {
        let status = uri.path().trim_matches('/').parse().unwrap();
        (StatusCode::from_u16(status).unwrap(), "no")
    };
    let server = tokio::spawn(axum::serve(listener, Router::new().fallback(any(answer))).into_future());
    every_upload_gets_its_refusal(address).await;
    server.abort();
}

/// An instance that answers every head with this, in which `STATUS` is what the target asks for, and resets the connection.
async fn resetting(answer: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let mut upstream = Upstream::listen().await;
    let address = upstream.address();
    let serving = tokio::spawn(async move {
        loop {
            let mut conversation = upstream.accept().await;
            if let Ok(Some(request)) = conversation.read_head().await {
                conversation.write(answer.replace("STATUS", request.target.trim_matches('/'))).await;
                conversation.reset();
            }
        }
    });
    (address, serving)
}

#[tokio::test]
async fn uploads_that_are_refused_without_a_length_get_their_answer() {
    let (address, serving) = resetting("HTTP/1.0 STATUS Refused\r\n\r\nno").await;
    every_upload_gets_its_refusal(address).await;
    serving.abort();
}

#[tokio::test]
async fn a_refusal_that_its_own_reset_cuts_short_is_not_the_fault_of_its_instance() {
    let (address, serving) = resetting("HTTP/1.1 STATUS Refused\r\nContent-Length: 500000\r\n\r\nno").await;
    let mut gateway = Gateway::before(&[address], &[]);
    gateway.set_policy("mail", r#"{"health":{"passive":{"consecutive_failures":1}}}"#);
    for n in 1..=UPLOADS {
        let mut client = gateway.connect().await;
        // The rest never comes, so that it is certain that the instance has not had it.
        client.send(format!("POST /mail/413 HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\nhi")).await;
        assert!([413, 502].contains(&client.head_only().await.status));
        client.rest().await;
        let count = || {
            let failed = gateway.metric(r#"balance_attempts_failed{service="mail",reason="closed"}"#);
            failed + gateway.metric(r#"balance_responses_broken{service="mail",reason="closed"}"#)
        };
        wait_until("its end", SOON, async || count() >= n as u64).await;
    }
    assert_eq!(gateway.ejected("mail"), 0);
    serving.abort();
}
