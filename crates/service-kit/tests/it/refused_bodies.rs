use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use service_kit::{
    json::JsonBody,
    serve::{ServeOptions, serve_with},
    tls::{Tls, TlsOptions},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tokio_util::sync::CancellationToken;

use crate::tls::Authority;

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Anything {}

async fn start(tls: Option<Tls>) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let router = Router::new()
        .route("/json", post(async |_: JsonBody<Anything>| "taken"))
        .route("/denied", post(async || StatusCode::UNAUTHORIZED))
        .route("/", get(async || "hello"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_with(listener, router, ServeOptions::default(), tls, shutdown.clone()));
    (address, shutdown, serving)
}

/// Sends a whole request before it reads a byte of the answer.
async fn upload(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, bytes: usize) -> io::Result<String> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let piece = vec![b' '; 16 * 1024];
    for begin in (0..bytes).step_by(piece.len()) {
        stream.write_all(&piece[..piece.len().min(bytes - begin)]).await?;
    }
    stream.flush().await?;
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end soon")?;
    Ok(String::from_utf8(answer).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_upload_that_is_refused_reads_why_not() {
    let (address, ..) = start(None).await;
    for (path, status) in [("/json", "413"), ("/denied", "401")] {
        for n in 0..30 {
            let stream = TcpStream::connect(address).await.unwrap();
            let answer = upload(stream, path, 2_000_000).await.unwrap_or_else(|error| panic!("{path}, {n}: {error}"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}, {n}: {answer}");
            assert!(answer.contains("connection: close"), "{path}, {n}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_upload_over_tls_that_is_refused_reads_why_not() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(folder.path(), "server");
    let options = TlsOptions {
        tls_cert_file: Some(folder.path().join("server.pem")),
        tls_key_file: Some(folder.path().join("server.key")),
        tls_client_ca_file: None,
    };
    let (address, ..) = start(options.load().unwrap()).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path().join("server-ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    for n in 0..30 {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let answer = upload(stream, "/json", 2_000_000).await.unwrap_or_else(|error| panic!("{n}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 413 "), "{n}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_is_no_http_reads_its_400_although_much_follows() {
    let (address, ..) = start(None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"no http\r\n\r\n").await.unwrap();
    for _ in 0..100 {
        stream.write_all(&[b'x'; 16 * 1024]).await.expect("it is read and forgotten");
    }
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("an end soon").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn a_small_body_that_is_refused_does_not_cost_the_connection() {
    let (address, ..) = start(None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"POST /denied HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
        let mut answer = vec![0; 12];
        timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("an answer soon").unwrap();
        assert_eq!(answer, b"HTTP/1.1 401");
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n\r\n") {
            rest.push(stream.read_u8().await.unwrap());
        }
    }
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let (address, shutdown, serving) = start(None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 12];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("an answer soon").unwrap();
    shutdown.cancel();
    timeout(Duration::from_secs(4), serving)
        .await
        .expect("less than the wait for a client that may be sending")
        .unwrap();
}

#[tokio::test]
async fn a_client_that_goes_on_sending_what_was_refused_does_not_hold_up_the_end() {
    let (address, shutdown, serving) = start(None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /denied HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    let dripping = tokio::spawn(async move {
        while stream.write_all(b"more").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    shutdown.cancel();
    // A request under way would have longer.
    let end = timeout(ServeOptions::default().drain_deadline * 3 / 4, serving).await;
    end.expect("the end before the drain deadline").unwrap();
    dripping.abort();
}
