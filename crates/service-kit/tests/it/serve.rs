use std::time::Duration;

use axum::{
    Router,
    routing::{get, post},
};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use service_kit::{
    app,
    browser::{BrowserOptions, Guard},
    connections::{Bounds, Connections},
    health::Readiness,
    json::JsonBody,
    serve::{ServeOptions, serve},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting {
    name: String,
}

struct Server {
    url: String,
    readiness: Readiness,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// A request to `/slow` tells when it is inside, and waits to be let out.
#[derive(Default)]
struct Gate {
    inside: Notify,
    open: Notify,
}

async fn start(options: ServeOptions, gate: &'static Gate) -> Server {
    let api = Router::new()
        .route("/greet", post(async |JsonBody(greeting): JsonBody<Greeting>| format!("hello {}", greeting.name)))
        .route(
            "/slow",
            get(async || {
                gate.inside.notify_one();
                gate.open.notified().await;
                "done"
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let readiness = Readiness::new();
    let shutdown = CancellationToken::new();
    let router =
        app::assemble(api, Guard::new(&BrowserOptions::default(), None), readiness.clone(), Registry::default());
    let task = tokio::spawn(serve(listener, router, options, shutdown.clone()));
    Server { url, readiness, shutdown, task }
}

fn gate() -> &'static Gate {
    Box::leak(Box::default())
}

#[tokio::test]
async fn every_error_is_a_problem_with_a_code_and_the_request_id() {
    let server = start(ServeOptions::default(), gate()).await;
    let client = reqwest::Client::new();
    for (request, status, code) in [
        (client.get(format!("{}/nowhere", server.url)), 404, "no_such_path"),
        (client.delete(format!("{}/greet", server.url)), 405, "method_not_allowed"),
        (client.post(format!("{}/greet", server.url)).body("{"), 400, "malformed_json"),
        (client.post(format!("{}/greet", server.url)).body("{\"nam\":1}"), 422, "invalid_field"),
        (client.post(format!("{}/greet", server.url)).body("x".repeat(70_000)), 413, "body_too_large"),
    ] {
        let response = request.header("x-request-id", "id-1").send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["x-request-id"], "id-1");
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!((body["code"].as_str(), body["request_id"].as_str()), (Some(code), Some("id-1")), "{body}");
    }
}

#[tokio::test]
async fn readyz_says_why_not_and_healthz_does_not_care() {
    let server = start(ServeOptions::default(), gate()).await;
    let get = async |path: &str| {
        let response = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(get("/readyz").await.0, 200);
    server.readiness.report("database", Err("connection refused".to_owned()));
    let (status, body) = get("/readyz").await;
    assert!(status == 503 && body.contains("connection refused"), "{status} {body}");
    assert_eq!(get("/healthz").await.0, 200);
    assert!(get("/metrics").await.1.contains("http_requests_total{route=\"/readyz\",method=\"GET\",status=\"503\"} 1"));
}

#[tokio::test]
async fn half_a_head_is_cut_off_at_the_deadline() {
    let options = ServeOptions { header_deadline: Duration::from_millis(200), ..ServeOptions::default() };
    let server = start(options, gate()).await;
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "the server must close a connection whose head does not arrive");
}

#[tokio::test]
async fn a_request_under_way_finishes_after_the_shutdown_and_no_new_one_starts() {
    let gate = gate();
    let server = start(ServeOptions::default(), gate).await;
    let slow = tokio::spawn(reqwest::get(format!("{}/slow", server.url)));
    gate.inside.notified().await;
    server.shutdown.cancel();
    let refused = tokio::time::timeout(Duration::from_secs(10), async {
        while TcpStream::connect(server.url.trim_start_matches("http://")).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    assert!(refused.await.is_ok(), "the listener must close at once");
    gate.open.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().text().await.unwrap(), "done");
    tokio::time::timeout(Duration::from_secs(10), server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_keep_its_connection_and_is_counted() {
    let connections = Connections::new(Bounds { max: 1, per_client_max: 0 });
    let options = ServeOptions {
        write_deadline: Duration::from_millis(500),
        connections: connections.clone(),
        ..ServeOptions::default()
    };
    let server = start(options, gate()).await;
    let address = server.url.trim_start_matches("http://");
    let mut greedy = TcpStream::connect(address).await.unwrap();
    // More responses than the buffers of both kernels hold, none of which is read.
    let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50_000);
    let pushing = tokio::spawn(async move {
        let _broken_off = greedy.write_all(requests.as_bytes()).await;
        std::future::pending::<()>().await;
        drop(greedy);
    });
    // The only slot is taken until the server gives that client up.
    let answer = tokio::time::timeout(Duration::from_secs(30), reqwest::get(format!("{}/healthz", server.url))).await;
    assert_eq!(answer.expect("the slot must become free").unwrap().status(), 200);
    let mut metrics = Registry::default();
    connections.register_unread(&mut metrics, "http");
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &metrics).unwrap();
    assert!(text.contains("http_connections_unread_total 1"), "{text}");
    pushing.abort();
}
