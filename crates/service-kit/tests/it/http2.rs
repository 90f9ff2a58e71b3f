//! HTTP/2 on the port of HTTP/1.1, within bounds of its own.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::Path,
    http::{Request, Response, StatusCode},
    routing::{get, post},
};
use futures::{StreamExt as _, future::join_all, stream};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::{encoding::text::encode, registry::Registry};
use service_kit::{
    connections::{Bounds, Connections},
    serve::{Http2Options, ServeOptions, SmallParts, ensure_client_connected, serve_with, wait_for_client},
    tls::TlsOptions,
};
use testkit::wait::{SOON, wait_until};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tokio_util::sync::CancellationToken;

use crate::tls::Authority;

struct Server {
    address: SocketAddr,
    connections: Connections,
    /// A permit for each request to `/slow` that is answered.
    open: &'static Semaphore,
    /// And one for each that has come in.
    inside: &'static Semaphore,
    /// Bytes of `/endless/…` that were made.
    made: &'static AtomicUsize,
    shutdown: CancellationToken,
}

fn semaphore() -> &'static Semaphore {
    Box::leak(Box::new(Semaphore::new(0)))
}

async fn start(options: ServeOptions, tls: TlsOptions) -> Server {
    let (open, inside) = (semaphore(), semaphore());
    let slow = async || {
        inside.add_permits(1);
        open.acquire().await.unwrap().forget();
        // Over HTTP/2 as over HTTP/1: what has been given up by its client does not go on.
        ensure_client_connected().await;
        inside.add_permits(1000);
        "done"
    };
    // Waits for the rest of a body, as for the next message of a stream.
    let patient = async |body: Body| {
        inside.add_permits(1);
        let body = wait_for_client(body.collect()).await;
        body.map(|body| body.to_bytes()).unwrap_or_default()
    };
    let made: &'static AtomicUsize = Box::leak(Box::default());
    let endless = async move |Path(bytes): Path<usize>| {
        let parts = stream::repeat(Bytes::from(vec![b'x'; bytes]));
        let count = move |part: &Bytes| _ = made.fetch_add(part.len(), Ordering::Relaxed);
        Body::from_stream(parts.inspect(count).map(Ok::<_, Infallible>))
    };
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/small", get(async || (Extension(SmallParts), "hello")))
        .route("/slow", get(slow))
        .route("/patient", post(patient))
        .route("/endless/{bytes}", get(endless));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = options.connections.clone();
    let options = ServeOptions { http2: Some(options.http2.unwrap_or_default()), ..options };
    let shutdown = CancellationToken::new();
    tokio::spawn(serve_with(listener, router, options, tls.load().unwrap(), shutdown.clone()));
    Server { address, connections, open, inside, made, shutdown }
}

async fn plain(options: ServeOptions) -> Server {
    start(options, TlsOptions::default()).await
}

type Client<B> = SendRequest<B>;

async fn speak<B>(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client<B>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    // As small as it may be: a client that does not read stalls soon.
    builder.initial_stream_window_size(65_535).initial_connection_window_size(64 * 1024 * 1024);
    let (client, connection) = builder.handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    client
}

impl Server {
    async fn connect(&self) -> Client<Empty<Bytes>> {
        speak(TcpStream::connect(self.address).await.unwrap()).await
    }

    fn request(&self, path: &str) -> Request<Empty<Bytes>> {
        Request::get(format!("http://{}{path}", self.address)).body(Empty::new()).unwrap()
    }

    async fn ask(&self, client: &mut Client<Empty<Bytes>>, path: &str) -> Response<Incoming> {
        client.ready().await.unwrap();
        timeout(SOON, client.send_request(self.request(path))).await.expect("an answer soon").unwrap()
    }

    fn unread(&self, count: usize) -> bool {
        let mut registry = Registry::default();
        self.connections.register_unread(&mut registry, "http");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text.contains(&format!("http_connections_unread_total {count}\n"))
    }
}

async fn text(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn both_protocols_are_spoken_on_one_port() {
    let server = plain(ServeOptions::default()).await;
    let mut client = server.connect().await;
    let response = server.ask(&mut client, "/").await;
    assert_eq!((response.status(), response.version()), (StatusCode::OK, axum::http::Version::HTTP_2));
    assert_eq!(text(response).await, "hello");
    let old = reqwest::Client::builder().no_proxy().build().unwrap();
    let response = old.get(format!("http://{}/", server.address)).send().await.unwrap();
    assert_eq!(response.version(), axum::http::Version::HTTP_11);
    assert_eq!(response.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn over_tls_both_sides_agree_on_the_protocol() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(folder.path(), "server");
    let tls = TlsOptions {
        tls_cert_file: Some(folder.path().join("server.pem")),
        tls_key_file: Some(folder.path().join("server.key")),
        tls_client_ca_file: None,
    };
    let server = start(ServeOptions::default(), tls).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path().join("server-ca.pem")).unwrap()).unwrap();
    for (offered, agreed) in [
        (vec![b"h2".to_vec(), b"http/1.1".to_vec()], Some(&b"h2"[..])),
        (vec![b"http/1.1".to_vec()], Some(&b"http/1.1"[..])),
        (Vec::new(), None),
    ] {
        let builder = ClientConfig::builder_with_provider(ring::default_provider().into());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots.clone()).with_no_client_auth();
        config.alpn_protocols = offered;
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        if agreed == Some(b"h2") {
            let mut client = speak(stream).await;
            assert_eq!(text(server.ask(&mut client, "/").await).await, "hello");
        } else {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("hello"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_its_client_does_not_read_is_ended_and_the_others_go_on() {
    let write_deadline = Duration::from_millis(500);
    let server = plain(ServeOptions { write_deadline, ..ServeOptions::default() }).await;
    let mut client = server.connect().await;
    let stalled = server.ask(&mut client, "/endless/16384").await;
    let mut read = server.ask(&mut client, "/endless/16384").await.into_body();
    let started = Instant::now();
    let reading = async {
        while started.elapsed() < write_deadline * 3 || !server.unread(1) {
            read.frame().await.expect("it goes on").expect("and is not reset");
        }
    };
    timeout(SOON, reading).await.expect("the stalled stream is ended and counted");
    let mut rest = stalled.into_body();
    let mut bytes = 0;
    let end = loop {
        match timeout(SOON, rest.frame()).await.expect("what was sent, and then the end") {
            Some(Ok(frame)) => bytes += frame.into_data().map_or(0, |data| data.len()),
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(_))), "it is reset");
    assert!(bytes <= 65_535, "no more than the client had let: {bytes}");
    let mut again = server.ask(&mut client, "/endless/16384").await.into_body();
    for _ in 0..100 {
        timeout(write_deadline, again.frame()).await.expect("room again").unwrap().unwrap();
    }
}

/// One byte of room is enough for hyper to hand over all of a short answer.
#[tokio::test]
async fn answers_for_which_there_is_a_byte_of_room_are_dropped_in_time_beside_a_stream_that_lasts() {
    let write_deadline = Duration::from_millis(500);
    let server = plain(ServeOptions { write_deadline, ..ServeOptions::default() }).await;
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let lasting = tokio::spawn(client.send_request(server.request("/slow")));
    wait_until("it is inside", SOON, async || server.inside.available_permits() == 1).await;
    let unread = [server.ask(&mut client, "/").await, server.ask(&mut client, "/endless/16384").await];
    wait_until("both are counted", SOON, async || server.unread(2)).await;
    for response in unread {
        let mut body = response.into_body();
        let end = loop {
            match timeout(SOON, body.frame()).await.expect("what was sent, and then the end") {
                Some(Ok(frame)) => assert_eq!(frame.into_data().unwrap().len(), 1),
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(_))), "it is reset");
    }
    server.open.add_permits(1);
    assert!(lasting.await.unwrap().is_ok(), "the connection goes on");
}

#[tokio::test]
async fn what_all_streams_of_a_connection_leave_unread_is_bounded_in_bytes_and_small_answers_go_on() {
    const PART: usize = 16 * 1024;
    const UNREAD: usize = 200;
    const BOUND: usize = 1024 * 1024;
    let server = plain(ServeOptions::default()).await;
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..UNREAD {
        unread.push(server.ask(&mut client, &format!("/endless/{PART}")).await);
    }
    let made = async || server.made.load(Ordering::Relaxed);
    wait_until("as much is made as may be", SOON, async || made().await == BOUND).await;
    assert_eq!(text(server.ask(&mut client, "/small").await).await, "hello", "beside them");
    let waiting = server.ask(&mut client, "/").await;
    assert_eq!(made().await, BOUND, "no more than that, of {UNREAD} streams with {PART} bytes each");
    // Reading one to some bytes makes room for no other; giving them up does.
    drop(unread);
    assert_eq!(text(waiting).await, "hello");
}

#[tokio::test]
async fn parts_that_are_larger_than_a_piece_take_all_the_room_that_is_left() {
    const PART: usize = 600 * 1024;
    let server = plain(ServeOptions::default()).await;
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1);
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut unread = Vec::new();
    for _ in 0..40 {
        unread.push(server.ask(&mut client, &format!("/endless/{PART}")).await);
    }
    let made = async || server.made.load(Ordering::Relaxed);
    wait_until("there is room for one and for a part of another", SOON, async || made().await == 2 * PART).await;
    assert_eq!(text(server.ask(&mut client, "/small").await).await, "hello", "beside them");
    assert_eq!(made().await, 2 * PART, "no third one, of 40 streams");
}

#[tokio::test]
async fn requests_beyond_the_bound_of_a_connection_wait_for_their_turn() {
    let http2 = Some(Http2Options { streams_max: 4 });
    let server = plain(ServeOptions { http2, ..ServeOptions::default() }).await;
    let mut client = server.connect().await;
    // Once the server's settings are known.
    server.ask(&mut client, "/").await;
    let ask = |_| {
        let mut client = client.clone();
        let request = server.request("/slow");
        async move { text(client.send_request(request).await.unwrap()).await }
    };
    let all = tokio::spawn(join_all((0..12).map(ask)));
    wait_until("four are inside", SOON, async || server.inside.available_permits() == 4).await;
    server.open.add_permits(12);
    let answers = timeout(SOON, all).await.unwrap().unwrap();
    assert!(answers.iter().all(|answer| answer == "done"));
}

#[tokio::test]
async fn a_connection_without_requests_is_ended_and_one_with_a_request_is_not() {
    let header_deadline = Duration::from_millis(400);
    let server = plain(ServeOptions { header_deadline, ..ServeOptions::default() }).await;
    let mut busy = server.connect().await;
    let request = busy.send_request(server.request("/slow"));
    let answer = tokio::spawn(request);
    let mut idle = server.connect().await;
    assert_eq!(text(server.ask(&mut idle, "/").await).await, "hello");
    let _silent = TcpStream::connect(server.address).await.unwrap();
    wait_until("the idle ones are closed", SOON, async || server.connections.total() == 1).await;
    assert!(idle.is_closed() || idle.ready().await.is_err());
    server.open.add_permits(1);
    assert_eq!(text(answer.await.unwrap().unwrap()).await, "done");
}

#[tokio::test]
async fn a_client_that_drips_its_first_bytes_gets_no_second_deadline() {
    let header_deadline = Duration::from_millis(600);
    let server = plain(ServeOptions { header_deadline, ..ServeOptions::default() }).await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for byte in ["P", "O"] {
        tokio::time::sleep(header_deadline / 3).await;
        stream.write_all(byte.as_bytes()).await.unwrap();
    }
    assert_eq!(timeout(SOON, stream.read(&mut [0; 64])).await.expect("an end").unwrap_or(0), 0);
    assert!(started.elapsed() < header_deadline * 3 / 2, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_connection_whose_streams_only_wait_gives_its_place_to_another_client() {
    let connections = Connections::new(Bounds { max: 1, per_client_max: 0 });
    let server = plain(ServeOptions { connections, ..ServeOptions::default() }).await;
    let mut working = server.connect().await;
    let answer = tokio::spawn(working.send_request(server.request("/slow")));
    wait_until("it is worked on", SOON, async || server.inside.available_permits() == 1).await;
    let newcomer = tokio::spawn(reqwest::get(format!("http://{}/", server.address)));
    server.open.add_permits(1);
    assert_eq!(text(answer.await.unwrap().unwrap()).await, "done", "what is worked on is finished");
    assert!(timeout(SOON, newcomer).await.expect("then it is the newcomer's turn").unwrap().is_ok());

    // A body that never ends.
    let mut waiting = speak(TcpStream::connect(server.address).await.unwrap()).await;
    let body = http_body_util::StreamBody::new(stream::pending::<Result<hyper::body::Frame<Bytes>, Infallible>>());
    let request = Request::post(format!("http://{}/patient", server.address)).body(body).unwrap();
    let before = server.inside.available_permits();
    let answer = tokio::spawn(waiting.send_request(request));
    wait_until("it is inside", SOON, async || server.inside.available_permits() > before).await;
    let newcomer = timeout(SOON, reqwest::get(format!("http://{}/", server.address)));
    assert!(newcomer.await.expect("a place at once").is_ok());
    assert!(answer.await.unwrap().is_err(), "the other connection is closed");
}

#[tokio::test]
async fn a_request_that_was_reset_is_not_begun() {
    let server = plain(ServeOptions::default()).await;
    let mut client = server.connect().await;
    let mut second = server.connect().await;
    let given_up = tokio::spawn(client.send_request(server.request("/slow")));
    let kept = tokio::spawn(second.send_request(server.request("/slow")));
    wait_until("both are inside", SOON, async || server.inside.available_permits() == 2).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    server.open.add_permits(2);
    assert_eq!(text(kept.await.unwrap().unwrap()).await, "done");
    // The connection goes on; what came before on it has been dealt with.
    assert_eq!(text(server.ask(&mut client, "/").await).await, "hello");
    assert_eq!(server.inside.available_permits(), 1002, "the other one went no further");
}

#[tokio::test]
async fn at_the_end_requests_under_way_are_finished_and_no_new_ones_taken() {
    let server = plain(ServeOptions::default()).await;
    let mut client = server.connect().await;
    let answer = tokio::spawn(client.send_request(server.request("/slow")));
    wait_until("it is inside", SOON, async || server.inside.available_permits() == 1).await;
    server.shutdown.cancel();
    wait_until("the port is closed", SOON, async || TcpStream::connect(server.address).await.is_err()).await;
    server.open.add_permits(1);
    assert_eq!(text(answer.await.unwrap().unwrap()).await, "done");
    wait_until("the connection is closed", SOON, async || server.connections.total() == 0).await;
}
