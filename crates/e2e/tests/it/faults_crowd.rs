//! Others misbehave: users of a service that is well notice little.

use std::time::{Duration, Instant};

use bench::cost::Cost;
use e2e::{
    fault_row::latency,
    fault_suite::FaultSuite,
    latency::{compared, in_ms},
    users::Users,
};
use testkit::wait::{SOON, wait_until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// How far memory may grow under clients that misbehave. Honest work needs a few megabytes.
const GROWTH_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The p99 of what was due in `from..to`.
fn p99(users: &Users, from: Instant, to: Instant) -> Duration {
    latency(&users.between(from, to), 0.99)
}

#[tokio::test]
async fn the_instances_of_another_service_expire_all_at_once() {
    let fault_suite = FaultSuite::start().await;
    let (instances, ttl) = fault_suite.scale.pick((1_000, Duration::from_secs(12)), (10_000, Duration::from_secs(30)));
    let users = fault_suite.users().await;
    let calm = Instant::now();
    fault_suite.pass(Duration::from_secs(2)).await;
    let registering = Instant::now();
    register_crowd(&fault_suite, instances, ttl);
    wait_until("the gateway to know the crowd", SOON, async || crowd(&fault_suite).await == Some(instances)).await;
    // As long as what it is compared with.
    fault_suite.pass(Duration::from_secs(1)).await;
    let present = Instant::now();
    wait_until("the lease of the crowd to expire", ttl + SOON, async || crowd(&fault_suite).await == Some(0)).await;
    let expired = Instant::now();
    fault_suite.pass(Duration::from_secs(3)).await;
    // The lookout may have come a moment too late.
    let expiring = expired.checked_sub(Duration::from_millis(500)).map_or(present, |at| at.max(present));
    let note = format!(
        "p99 of the others {} (aim +10 %); without the crowd {}, while it came {}",
        compared(
            ("beside the crowd", p99(&users, present, expiring)),
            ("while and after it expired", p99(&users, expiring, Instant::now()))
        ),
        in_ms(p99(&users, calm, registering)),
        in_ms(p99(&users, registering, present)),
    );
    let row = fault_suite.row(&format!("{instances} instances of another service expire at once"), users);
    row.with_note(note).no_request_failed(None).check();
}

/// How many instances of the service `crowd` the gateway knows as registered; not from its table, which is long.
async fn crowd(fault_suite: &FaultSuite) -> Option<usize> {
    fault_suite.pass(Duration::from_millis(100)).await;
    let metrics = fault_suite.metrics().await?;
    let is_registered =
        |line: &&str| line.contains(r#"service="crowd""#) && !line.contains("last_resort") && !line.contains("kept");
    let lines = metrics.lines().filter(|line| line.starts_with("balance_instances{")).filter(is_registered);
    Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum())
}

/// Registers `instances` of the service `crowd`, at ports where no program listens, with one lease that is not kept
/// alive: only so do they all expire at the same moment.
fn register_crowd(fault_suite: &FaultSuite, instances: usize, ttl: Duration) {
    let granted = fault_suite.etcd.etcdctl(&["lease", "grant", &ttl.as_secs().to_string()]);
    let lease = granted.split_whitespace().nth(1).expect("lease ID granted with TTL(Ns)");
    let numbers: Vec<usize> = (0..instances).collect();
    // As many as etcd takes in one transaction by default.
    for numbers in numbers.chunks(128) {
        let put = |number: &usize| format!("put --lease={lease} service/crowd/i{number} 127.0.0.1:{}\n", 1 + number);
        let puts: String = numbers.iter().map(put).collect();
        fault_suite.etcd.etcdctl_with(&["txn"], &format!("\n{puts}\n\n"));
    }
}

#[tokio::test]
async fn clients_that_misbehave_neither_slow_others_down_nor_fill_the_memory() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let calm = Instant::now();
    fault_suite.pass(Duration::from_secs(2)).await;
    let id = fault_suite.id("balance");
    let before = Cost::of(id).unwrap().resident_bytes;
    let attacked = Instant::now();
    let (slow, hasty) = fault_suite.scale.pick((300, 100), (2_000, 500));
    let address = fault_suite.address("balance");
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
        fault_suite.pass(Duration::from_millis(20)).await;
        while clients.try_join_next().is_some() {}
    }
    let over = Instant::now();
    fault_suite.pass(Duration::from_secs(1)).await;
    let growth = peak - before;
    let note = format!(
        "p99 of honest clients {} (aim +10 %); memory {} + {} KiB (aim + {} KiB)",
        compared(("before", p99(&users, calm, attacked)), ("meanwhile", p99(&users, attacked, over))),
        before / 1024,
        growth / 1024,
        GROWTH_MAX_BYTES / 1024
    );
    let row = fault_suite
        .row(&format!("{slow} slow clients, {hasty} with bombs, oversize bodies, half-closed, reset"), users);
    let row = row.with_note(note).holds(&format!("memory grew by {growth} bytes"), growth <= GROWTH_MAX_BYTES);
    row.no_request_failed(None).check();
}

/// A head, a line every half second, for ever: until the gateway has had enough, or eight seconds.
async fn drip(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /test-instance HTTP/1.1\r\nHost: localhost\r\n").await?;
    for number in 0..16 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stream.write_all(format!("x-{number}: y\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// A head of half a megabyte.
async fn head_bomb(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /test-instance HTTP/1.1\r\nHost: localhost\r\n").await?;
    for number in 0..8 {
        stream.write_all(format!("x-{number}: {}\r\n", "y".repeat(64 * 1024)).as_bytes()).await?;
    }
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

/// A body that is announced as a hundred megabytes, and a megabyte of it.
async fn oversize_body(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"POST /test-instance HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n").await?;
    stream.write_all(&vec![b'x'; 1024 * 1024]).await?;
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

/// Half a request, and no more.
async fn half_close(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"POST /test-instance HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nxxx").await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

/// A whole request, and gone before the answer.
async fn reset(address: std::net::SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /test-instance HTTP/1.1\r\nHost: localhost\r\nx-sleep-ms: 300\r\n\r\n").await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.set_zero_linger()
}
