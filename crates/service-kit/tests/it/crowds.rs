//! However many connections one client opens, others get in.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::Path, routing::get};
use prometheus_client::{encoding::text::encode, registry::Registry};
use service_kit::{
    connections::{Bounds, Connections},
    serve::{ServeOptions, serve},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    connections: Connections,
    /// A permit for each request to `/slow` that is answered.
    open: &'static Semaphore,
    inside: &'static Semaphore,
}

async fn start(bounds: Bounds) -> Server {
    let (open, inside): (&'static Semaphore, &'static Semaphore) =
        (Box::leak(Box::new(Semaphore::new(0))), Box::leak(Box::new(Semaphore::new(0))));
    let slow = async || {
        inside.add_permits(1);
        open.acquire().await.unwrap().forget();
        "done"
    };
    let large = async |Path(bytes): Path<usize>| vec![b'x'; bytes];
    let router =
        Router::new().route("/", get(async || "hello")).route("/slow", get(slow)).route("/large/{bytes}", get(large));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Connections::new(bounds);
    let options = ServeOptions { connections: connections.clone(), ..ServeOptions::default() };
    tokio::spawn(serve(listener, router, options, CancellationToken::new()));
    Server { address, connections, open, inside }
}

impl Server {
    /// A connection from 127.0.0.`host` that has sent `bytes`.
    async fn connect(&self, host: u8, bytes: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, host], 0).into()).unwrap();
        let mut stream = timeout(DEADLINE, socket.connect(self.address)).await.expect("a connection soon").unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    /// The status of `GET /` on a connection of its own.
    async fn status(&self, host: u8) -> String {
        status(&mut self.connect(host, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await).await
    }

    fn metrics(&self) -> String {
        let mut registry = Registry::default();
        let mut text = String::new();
        self.connections.register(&mut registry, "http");
        encode(&mut text, &registry).unwrap();
        text
    }
}

/// What the connection says until its end.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _closed_or_reset = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end soon");
    String::from_utf8(answer).unwrap()
}

async fn status(stream: &mut TcpStream) -> String {
    rest(stream).await.get(9..12).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_connections_of_one_client_as_there_may_be_keep_no_other_out() {
    // Idle, with half a head, and used once.
    for bytes in ["", "GET / HTTP/1.1\r\nHos", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        for per_client_max in [0, 50] {
            let server = start(Bounds { max: 100, per_client_max }).await;
            let mut crowd = Vec::new();
            for _ in 0..150 {
                crowd.push(server.connect(2, bytes).await);
            }
            for host in 3..13 {
                assert_eq!(server.status(host).await, "200", "{host} after {bytes:?}");
            }
            assert!(server.connections.total() <= 100);
            let metrics = server.metrics();
            assert!(metrics.contains("http_connections_evicted_total{bound="), "{metrics}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_finished_and_a_client_that_has_nothing_else_is_told() {
    let server = start(Bounds { max: 10, per_client_max: 2 }).await;
    let slow = "GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut under_way = [server.connect(2, slow).await, server.connect(2, slow).await];
    let _both = timeout(DEADLINE, server.inside.acquire_many(2)).await.expect("both inside");
    let told = rest(&mut server.connect(2, "").await).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("\"overloaded\""), "{told}");
    assert_eq!(server.status(3).await, "200");
    server.open.add_permits(2);
    for stream in &mut under_way {
        assert_eq!(status(stream).await, "200");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_have_a_request_under_way_a_newcomer_waits() {
    let server = start(Bounds { max: 2, per_client_max: 0 }).await;
    let slow = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let _under_way = [server.connect(2, slow).await, server.connect(3, slow).await];
    let _both = timeout(DEADLINE, server.inside.acquire_many(2)).await.expect("both inside");
    let newcomer = server.status(4);
    let mut newcomer = std::pin::pin!(newcomer);
    assert!(timeout(Duration::from_millis(300), &mut newcomer).await.is_err(), "no connection can go for it");
    server.open.add_permits(1);
    assert_eq!(newcomer.await, "200", "the one that has been answered and waits goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_being_read_is_not_cut_off() {
    let server = start(Bounds { max: 1, per_client_max: 0 }).await;
    let bytes = 20_000_000;
    let mut reader = server.connect(2, &format!("GET /large/{bytes} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    let mut begun = [0; 1];
    timeout(DEADLINE, reader.read_exact(&mut begun)).await.expect("an answer soon").unwrap();
    let newcomer = server.status(3);
    let mut newcomer = std::pin::pin!(newcomer);
    assert!(timeout(Duration::from_millis(300), &mut newcomer).await.is_err(), "it has to wait for the reader");
    let (all, status) = tokio::join!(rest(&mut reader), newcomer);
    assert!(all.len() > bytes, "{} bytes", all.len());
    assert_eq!(status, "200");
}
