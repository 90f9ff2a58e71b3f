//! Others misbehave: users of a service that is well notice little.

use std::time::{Duration, Instant};

use bench::cost::Cost;
use e2e::{fault_row::latency, rig::Rig, users::Users};
use testkit::wait::{SOON, wait_until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// How far memory may grow under clients that misbehave. Honest work needs a few megabytes.
const GROWTH_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The p99 of what was due in `from..to`, as text.
fn p99(users: &Users, from: Instant, to: Instant) -> String {
    let answers: Vec<_> = users.since(from).into_iter().filter(|answer| answer.due < to).collect();
    format!("{:.1} ms", latency(&answers, 0.99).as_secs_f64() * 1000.0)
}

#[tokio::test]
async fn the_instances_of_another_service_expire_all_at_once() {
    let rig = Rig::start().await;
    let (instances, ttl) = rig.scale.pick((1_000, Duration::from_secs(6)), (10_000, Duration::from_secs(30)));
    let users = rig.users().await;
    let calm = Instant::now();
    rig.pass(Duration::from_secs(2)).await;
    let registering = Instant::now();
    register_crowd(&rig, instances, ttl);
    // Not asked too often: the answer is long.
    let in_rotation = async || {
        rig.pass(Duration::from_millis(200)).await;
        let table = rig.admin("/v1/table").await?;
        let instances = table["services"]["crowd"]["instances"].as_array()?.iter();
        Some(instances.filter(|instance| instance["decision"] == "in_rotation").count())
    };
    wait_until("the gateway to know the crowd", SOON, async || in_rotation().await == Some(instances)).await;
    let expiring = Instant::now();
    wait_until("the lease of the crowd to expire", ttl + SOON, async || in_rotation().await == Some(0)).await;
    let gone = Instant::now();
    rig.pass(Duration::from_secs(3)).await;
    let note = format!(
        "p99 before {}, while they came {}, in the 3 s after they went {}",
        p99(&users, calm, registering),
        p99(&users, registering, expiring),
        p99(&users, gone, Instant::now()),
    );
    rig.row(&format!("{instances} instances of another service expire"), users).with_note(note).check(None);
}

/// Registers `instances` of the service `crowd`, at ports where nobody listens, with one lease that nobody keeps alive:
/// only so do they all expire at the same moment.
fn register_crowd(rig: &Rig, instances: usize, ttl: Duration) {
    let granted = rig.etcd.etcdctl(&["lease", "grant", &ttl.as_secs().to_string()]);
    let lease = granted.split_whitespace().nth(1).expect("lease ID granted with TTL(Ns)");
    let numbers: Vec<usize> = (0..instances).collect();
    // As many as etcd takes in one transaction by default.
    for numbers in numbers.chunks(128) {
        let put = |number: &usize| format!("put --lease={lease} service/crowd/i{number} 127.0.0.1:{}\n", 1 + number);
        let puts: String = numbers.iter().map(put).collect();
        rig.etcd.etcdctl_with(&["txn"], &format!("\n{puts}\n\n"));
    }
}

#[tokio::test]
async fn clients_that_misbehave_neither_slow_others_down_nor_fill_the_memory() {
    let mut rig = Rig::start().await;
    let users = rig.users().await;
    let calm = Instant::now();
    rig.pass(Duration::from_secs(2)).await;
    let id = rig.id("balance");
    let before = Cost::of(id).unwrap().resident_bytes;
    let attacked = Instant::now();
    let (slow, hasty) = rig.scale.pick((300, 100), (2_000, 500));
    let address = rig.address("balance");
    let mut clients = JoinSet::new();
    for number in 0..slow + hasty {
        clients.spawn(async move {
            // What happens to them is their problem.
            let _ = match number {
                _ if number < slow => drip(address).await,
                _ if number % 4 == 0 => head_bomb(address).await,
                _ if number % 4 == 1 => oversize_body(address).await,
                _ if number % 4 == 2 => half_close(address).await,
                _ => reset(address).await,
            };
        });
    }
    let mut peak = before;
    while !clients.is_empty() && attacked.elapsed() < Duration::from_secs(30) {
        peak = peak.max(Cost::of(id).unwrap().resident_bytes);
        rig.pass(Duration::from_millis(20)).await;
        while clients.try_join_next().is_some() {}
    }
    let over = Instant::now();
    rig.pass(Duration::from_secs(1)).await;
    let growth = peak - before;
    let note = format!(
        "p99 before {}, meanwhile {}; memory {} + {} KiB",
        p99(&users, calm, attacked),
        p99(&users, attacked, over),
        before / 1024,
        growth / 1024
    );
    let row = rig.row(&format!("{slow} slow clients, {hasty} with bombs, oversize bodies, half-closed, reset"), users);
    row.with_note(note).check(None);
    assert!(growth <= GROWTH_MAX_BYTES, "memory grew by {growth} bytes");
}

/// A head, a line every half second, for ever: until the gateway has had enough, or eight seconds.
async fn drip(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /witness HTTP/1.1\r\nHost: a\r\n").await?;
    for number in 0..16 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stream.write_all(format!("x-{number}: y\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// A head of half a megabyte.
async fn head_bomb(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /witness HTTP/1.1\r\nHost: a\r\n").await?;
    for number in 0..8 {
        stream.write_all(format!("x-{number}: {}\r\n", "y".repeat(64 * 1024)).as_bytes()).await?;
    }
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

/// A body that is announced as a hundred megabytes, and a megabyte of it.
async fn oversize_body(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"POST /witness HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n").await?;
    stream.write_all(&vec![b'x'; 1024 * 1024]).await?;
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

/// Half a request, and no more.
async fn half_close(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"POST /witness HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nxxx").await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

/// A whole request, and gone before the answer.
async fn reset(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /witness HTTP/1.1\r\nHost: a\r\nx-sleep-ms: 300\r\n\r\n").await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.set_zero_linger()
}
