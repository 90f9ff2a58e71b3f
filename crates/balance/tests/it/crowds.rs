//! One client is not everybody: however many connections one opens, and whatever it does on them, others get in.

use std::net::SocketAddr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use testkit::{
    upstream::{Reply, Upstream},
    wait::{SOON, wait_until},
};
use tokio::{net::TcpSocket, task::JoinSet, time::timeout};

use crate::support::{Client, Gateway, Program};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HALF: &str = "GET / HTTP/1.1\r\nHost: ";

/// A connection from 127.x.`network`.`host`, which is a client of its own; x is of this process, because the ports of one that
/// ran a moment ago may still be taken.
async fn connect(to: SocketAddr, network: u8, host: u8) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, process(), network, host], 0).into()).unwrap();
    let stream = timeout(SOON, socket.connect(to)).await.expect("a connection soon").unwrap();
    Client::from(stream)
}

fn process() -> u8 {
    u8::try_from(std::process::id() % 255 + 1).unwrap()
}

/// `count` connections, the nth from 127.x.`client(n)`, that have sent `bytes`.
async fn crowd(to: SocketAddr, count: usize, bytes: &'static str, client: fn(usize) -> (u8, u8)) -> Vec<Client> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let (mut all, mut connecting) = (Vec::new(), JoinSet::new());
    for n in 0..count {
        let (network, host) = client(n);
        connecting.spawn(async move {
            let mut client = connect(to, network, host).await;
            client.try_send(bytes).await;
            client
        });
        if connecting.len() >= 64 {
            all.extend(connecting.join_next().await.map(Result::unwrap));
        }
    }
    all.extend(connecting.join_all().await);
    all
}

fn one_address(_: usize) -> (u8, u8) {
    (0, 2)
}

fn an_address_each(n: usize) -> (u8, u8) {
    (u8::try_from(n / 200 + 1).unwrap(), u8::try_from(n % 200 + 1).unwrap())
}

/// The value of a metric, without labels or with these.
fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

/// Twenty newcomers, each from an address of its own, are answered.
async fn others_are_answered(to: SocketAddr) {
    for host in 1..=20 {
        let mut newcomer = connect(to, 100, host).await;
        assert_eq!(newcomer.ask(GET).await.status, 200, "newcomer {host}");
    }
}

#[tokio::test]
async fn ten_thousand_idle_connections_of_one_address_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), "http://127.0.0.1:9", &[]).await;
    let mut first = connect(program.address, 0, 3).await;
    assert_eq!(first.ask(GET).await.status, 200);
    let crowd = crowd(program.address, 10_000, "", one_address).await;
    others_are_answered(program.address).await;
    assert_eq!(first.ask(GET).await.status, 200, "who was there before is not pushed out");
    let metrics = program.metrics().await;
    assert!(metric(&metrics, "balance_connections") <= 5_100, "half is one client's share");
    assert!(metric(&metrics, "balance_connections_evicted_total{bound=\"client\"}") >= 5_000 - 1);
    assert_eq!(metric(&metrics, "balance_connections_max"), 10_000);
    drop(crowd);
}

#[tokio::test]
async fn a_thousand_half_sent_heads_of_one_address_keep_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    // Heads have more time than the test, and one client may have all connections.
    let options = ["--connections-max=1000", "--connections-per-client-max=0", "--header-timeout=5m"];
    let program = Program::start(folder.path(), "http://127.0.0.1:9", &options).await;
    let crowd = crowd(program.address, 1_000, HALF, one_address).await;
    others_are_answered(program.address).await;
    let metrics = program.metrics().await;
    // Each newcomer leaves before the next one comes, which then finds its place.
    assert!(metric(&metrics, "balance_connections_evicted_total{bound=\"total\"}") >= 1);
    drop(crowd);
}

#[tokio::test]
async fn connections_from_many_addresses_keep_nobody_out_whichever_core_has_them() {
    for bytes in ["", HALF] {
        let gateway = Gateway::with(&["--workers=4", "--connections-max=400", "--header-timeout=5m"]);
        let crowd = crowd(gateway.address(), 600, bytes, an_address_each).await;
        others_are_answered(gateway.address()).await;
        drop(crowd);
    }
}

#[tokio::test]
async fn a_client_at_its_share_pushes_out_an_idle_connection_of_its_own() {
    let gateway = Gateway::with(&["--connections-max=4"]);
    let mut quiet = connect(gateway.address(), 0, 3).await;
    assert_eq!(quiet.ask(GET).await.status, 200);
    let mut many = Vec::new();
    for _ in 0..2 {
        let mut client = connect(gateway.address(), 0, 2).await;
        assert_eq!(client.ask(GET).await.status, 200);
        many.push(client);
    }
    let mut third = connect(gateway.address(), 0, 2).await;
    assert_eq!(third.ask(GET).await.status, 200, "one of its own went: half of four is the share");
    let [mut first, mut second] = many.try_into().unwrap();
    tokio::select! {
        is_closed = first.is_closed() => assert!(is_closed),
        is_closed = second.is_closed() => assert!(is_closed),
    }
    assert_eq!(quiet.ask(GET).await.status, 200);
}

#[tokio::test]
async fn requests_under_way_are_never_closed_and_fill_no_more_than_a_share() {
    let upstream = Upstream::start(|_| Reply::Silence).await;
    let gateway = Gateway::before(
        &[upstream.address()],
        &["--connections-max=6", "--connections-per-client-max=2", "--stall-timeout=0s"],
    );
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = connect(gateway.address(), 0, 2).await;
        client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
        busy.push(client);
    }
    wait_until("both at the instance", SOON, || async { upstream.connections_open() == 2 }).await;
    let mut third = connect(gateway.address(), 0, 2).await;
    let answer = third.answer().await;
    assert_eq!((answer.code(), answer.header("retry-after")), ((503, "overloaded".to_owned()), Some("2")));
    others_are_answered(gateway.address()).await;
    assert_eq!(upstream.connections_open(), 2, "what was under way still is");
}

#[tokio::test]
async fn a_trusted_proxy_has_no_share() {
    let trusted = format!("--trust-forwarded-from=127.{}.0.9", process());
    let gateway = Gateway::with(&["--connections-per-client-max=1", &trusted]);
    let mut proxy = [connect(gateway.address(), 0, 9).await, connect(gateway.address(), 0, 9).await];
    for client in &mut proxy {
        assert_eq!(client.ask(GET).await.status, 200);
    }
    for client in &mut proxy {
        assert_eq!(client.ask(GET).await.status, 200);
    }
}
