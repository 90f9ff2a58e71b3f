//! What is tried again, and what never is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use testkit::upstream::{Reply, Upstream};

use crate::support::Gateway;

const GET: &str = "GET /mail HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /mail HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

/// Resets the connection after it has received a request.
async fn killed() -> Upstream {
    Upstream::start(|_| Reply::Reset).await
}

#[tokio::test]
async fn a_refused_connection_goes_to_the_next_instance_whatever_the_method() {
    for request in [GET, POST] {
        let (mut a, b) = (Upstream::named("a").await, Upstream::start(|request| Reply::ok(&request.body)).await);
        a.down().await;
        let gateway = Gateway::before(&[a.address(), b.address()], &[]);
        for _ in 0..4 {
            assert_eq!(gateway.ask(request).await.status, 200);
        }
        assert_eq!(b.requests().len(), 4);
    }
}

#[tokio::test]
async fn get_is_retried_after_a_reset() {
    let (a, b) = (killed().await, Upstream::named("b").await);
    let gateway = Gateway::before(&[a.address(), b.address()], &[]);
    for _ in 0..2 {
        assert_eq!(gateway.ask(GET).await.text(), "b");
    }
    assert_eq!(a.requests().len(), 2, "it was tried twice, and then ejected");
}

#[tokio::test]
async fn post_is_not_retried_after_bytes_were_sent() {
    let (a, b) = (killed().await, Upstream::named("b").await);
    let gateway = Gateway::before(&[a.address(), b.address()], &[]);
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let answer = gateway.ask(POST).await;
        statuses.push(answer.status);
        if answer.status == 502 {
            assert_eq!(answer.problem().0, "upstream_closed");
        }
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1), "each POST was sent once");
}

#[tokio::test]
async fn put_is_retried_while_its_body_was_kept() {
    let (a, b) = (killed().await, Upstream::start(|request| Reply::ok(&request.body)).await);
    let gateway = Gateway::before(&[a.address(), b.address()], &["--replay-max-bytes=10"]);
    let put = |body: &str| format!("PUT /mail HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for _ in 0..2 {
        assert_eq!(gateway.ask(&put("0123456789")).await.text(), "0123456789");
    }
    assert_eq!(a.requests().len(), 2);
    let (a, b) = (killed().await, Upstream::named("b").await);
    let gateway = Gateway::before(&[a.address(), b.address()], &["--replay-max-bytes=10"]);
    let large = "x".repeat(1 << 20);
    let mut statuses = vec![gateway.ask(&put(&large)).await.status, gateway.ask(&put(&large)).await.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502], "a larger body was sent, and is gone");
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_large_body_goes_to_the_next_instance_while_nobody_has_touched_it() {
    let (mut a, b) = (Upstream::named("a").await, Upstream::start(|request| Reply::ok(&request.body)).await);
    a.down().await;
    let gateway = Gateway::before(&[a.address(), b.address()], &["--replay-max-bytes=0"]);
    for _ in 0..2 {
        assert_eq!(gateway.ask(POST).await.text(), "hello");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_instance_closed_costs_no_request() {
    let answered = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&answered);
    // Says nothing about closing, and closes after every answer, as servers do with idle connections.
    let upstream = Upstream::start(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Reply::ThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
    })
    .await;
    let gateway = Gateway::before(&[upstream.address()], &[]);
    let mut client = gateway.connect().await;
    for n in 1..=10 {
        let request = if n % 2 == 0 { GET } else { POST };
        assert_eq!(client.ask(request).await.status, 200, "request {n}");
        testkit::wait::wait_until("the closing", testkit::wait::SOON, || async { upstream.connections_open() == 0 })
            .await;
    }
    assert_eq!(answered.load(Ordering::Relaxed), 10, "none was sent twice");
}

#[tokio::test]
async fn attempts_are_bounded_and_the_last_failure_is_told() {
    let upstreams = [killed().await, killed().await, killed().await, killed().await];
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let gateway = Gateway::before(&addresses, &["--attempts-max=3"]);
    let answer = gateway.ask(GET).await;
    assert_eq!(answer.code(), (502, "upstream_closed".to_owned()));
    assert_eq!(upstreams.iter().map(|upstream| upstream.requests().len()).sum::<usize>(), 3);
}

#[tokio::test]
async fn retries_are_a_fifth_of_the_requests_at_most() {
    let (a, b) = (killed().await, killed().await);
    let gateway = Gateway::before(&[a.address(), b.address()], &[]);
    let mut client = gateway.connect().await;
    for _ in 0..200 {
        assert_eq!(client.ask(GET).await.status, 502);
    }
    let sent = a.requests().len() + b.requests().len();
    assert!((200..=320).contains(&sent), "200 requests became {sent}: a fifth, and a reserve of 20 per ten seconds");
}

#[tokio::test]
async fn an_instance_that_accepts_no_connection_costs_the_connect_timeout_once() {
    let deaf = Deaf::start().await;
    let b = Upstream::named("b").await;
    let gateway = Gateway::before(&[deaf.address, b.address()], &["--connect-timeout=500ms"]);
    for _ in 0..4 {
        assert_eq!(gateway.ask(POST).await.text(), "b");
    }
    let alone = Gateway::before(&[deaf.address], &["--connect-timeout=500ms"]);
    let answer = alone.ask(POST).await;
    assert_eq!(answer.code(), (503, "instance_unreachable".to_owned()));
    assert!(answer.problem().1.contains("did not accept a connection within 500ms"), "{:?}", answer.problem());
}

/// A listener whose queue is full: the kernel drops further connections without a word, as a dead host does.
struct Deaf {
    address: std::net::SocketAddr,
    _listener: std::net::TcpListener,
    _queue: Vec<tokio::net::TcpStream>,
}

impl Deaf {
    async fn start() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener: std::net::TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        let patience = std::time::Duration::from_millis(500);
        while let Ok(stream) = tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
        }
        Self { address, _listener: listener, _queue: queue }
    }
}
