//! An instance that answers from the head and closes has answered: the client reads that answer, whatever became of the body.

use std::net::SocketAddr;

use axum::{Router, http::StatusCode, routing::any};
use tokio::net::TcpListener;

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
