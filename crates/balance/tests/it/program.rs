//! The program as it is started in production: arguments, signals, exit codes.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    upstream::Upstream,
    wait::{SOON, wait_until},
};
use tokio::net::TcpStream;

use crate::support::{Client, Program};

fn balance() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_balance"));
    command.env_clear();
    command
}

#[tokio::test]
async fn without_etcd_it_is_alive_but_not_ready_and_finds_etcd_later() {
    let mut etcd = EtcdCluster::start(1).await;
    etcd.stop(0);
    let program = Program::start(etcd.dir(), &etcd.endpoint(0), &[]).await;
    assert_eq!(program.get("/mail").await.code(), (503, "discovery_unknown".to_owned()));
    let readiness = program.readiness().await;
    assert!(readiness.status == 503 && readiness.text().contains("etcd has not been reached"), "{}", readiness.text());
    let check = |port: u16| {
        let admin = format!("127.0.0.1:{port}");
        balance().args(["--healthcheck", "--admin-listen", &admin]).status().unwrap().code()
    };
    assert_eq!(check(program.admin.port()), Some(0), "alive");
    assert_eq!(check(free_ports(1)[0]), Some(1), "nobody there");
    etcd.launch(0);
    wait_until("readiness", SOON, async || program.readiness().await.status == 200).await;
    assert_eq!(program.get("/mail").await.code(), (503, "no_instance".to_owned()));
}

#[tokio::test]
async fn sigterm_ends_it_in_order_and_with_exit_code_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Program::start(folder.path(), "http://127.0.0.1:9", &[]).await;
    let mut idle = Client::connect(program.address).await;
    assert_eq!(idle.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    assert_eq!(program.terminate(), Some(0), "{}", program.output());
    assert!(idle.is_closed().await);
}

#[test]
fn every_mistake_in_the_configuration_is_said_at_once() {
    let output = balance()
        .env("BALANCE_LISTEN", "nowhere")
        .env("BALANCE_RESPONSE_TIMEOUT", "30")
        .env("BALANCE_TRUST_FORWARDED_FROM", "10.0.0.0/99")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    for name in ["BALANCE_LISTEN", "BALANCE_RESPONSE_TIMEOUT", "BALANCE_TRUST_FORWARDED_FROM"] {
        assert!(said.contains(name), "{name} in {said}");
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_port_does_not_start_and_says_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let first = Program::start(folder.path(), "http://127.0.0.1:9", &["--workers=2"]).await;
    for (listen, admin) in [(first.address, "127.0.0.1:0".parse().unwrap()), (([127, 0, 0, 1], 0).into(), first.admin)]
    {
        let taken = if admin == first.admin { admin } else { listen };
        let mut second = balance();
        second.args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()]);
        let output = second.env("LOG_FORMAT", "text").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{said}");
        let wanted = format!("cannot listen on {taken}: it is held by balance (process {})", first.id());
        assert!(said.contains(&wanted), "{wanted} in {said}");
    }
    for _ in 0..20 {
        assert_eq!(first.get("/").await.status, 200, "every connection is the first one's");
    }
}

#[tokio::test]
async fn of_two_gateways_that_start_at_once_one_serves() {
    let folder = tempfile::tempdir().unwrap();
    let listen = format!("--listen=127.0.0.1:{}", free_ports(1)[0]);
    let mut both = Vec::new();
    for n in 0..2 {
        let mut command = balance();
        command
            .args([&listen, "--admin-listen=127.0.0.1:0", "--workers=2"])
            .env("ETCD_ENDPOINTS", "http://127.0.0.1:9");
        both.push(Process::start(&mut command, &folder.path().join(format!("{n}.log"))).unwrap());
    }
    wait_until("one has ended", SOON, async || both.iter().any(|one| one.output().contains("\"failed\""))).await;
    let serving = |one: &Process| one.output().contains("\"serving\"");
    wait_until("the other serves", SOON, async || both.iter().filter(|one| serving(one)).count() == 1).await;
    let (ended, serves) = if serving(&both[0]) { (1, 0) } else { (0, 1) };
    assert_eq!(both[ended].wait(SOON).unwrap().code(), Some(69), "{}", both[ended].output());
    assert!(both[serves].is_running());
    let holder = format!("held by balance (process {})", both[serves].id());
    assert!(both[ended].output().contains(&holder), "{}", both[ended].output());
}

#[tokio::test]
async fn a_gateway_that_was_killed_starts_again_at_once_on_the_same_port() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Program::start(folder.path(), "http://127.0.0.1:9", &["--workers=2"]).await;
    // Connections that the gateway closes itself linger in the kernel, as this one after `Connection: close`.
    for _ in 0..20 {
        assert_eq!(first.get("/").await.status, 200);
    }
    let open = Client::connect(first.address).await;
    first.kill();
    let listen = format!("--listen={}", first.address);
    let again = Program::start(folder.path(), "http://127.0.0.1:9", &[&listen]).await;
    assert_eq!((again.address, again.get("/").await.status), (first.address, 200));
    drop(open);
}

#[tokio::test]
async fn nobody_can_connect_before_there_is_a_table_or_a_second_has_passed() {
    let etcd = EtcdCluster::start(1).await;
    let snapshot = etcd.dir().join("snapshot");
    let option = format!("--snapshot-file={}", snapshot.display());
    etcd.etcdctl(&["put", "service/mail/1", "127.0.0.1:9"]);
    let mut first = Program::start(etcd.dir(), &etcd.endpoint(0), &[&option]).await;
    assert_eq!(first.get("/mail").await.code().1, "instance_unreachable", "no answer without the table");
    wait_until("a snapshot", SOON, async || snapshot.exists()).await;
    first.terminate();
    let from_disk = Program::start(etcd.dir(), "http://127.0.0.1:19", &[&option]).await;
    assert_eq!(from_disk.get("/mail").await.code().1, "instance_unreachable", "the table on disk is one");

    let listen: SocketAddr = ([127, 0, 0, 1], free_ports(1)[0]).into();
    let mut command = balance();
    command
        .args(["--listen", &listen.to_string(), "--admin-listen=127.0.0.1:0"])
        .env("ETCD_ENDPOINTS", "http://127.0.0.1:19");
    let started = Instant::now();
    let _without = Process::start(&mut command, &etcd.dir().join("without.log")).unwrap();
    wait_until("a connection", SOON, async || TcpStream::connect(listen).await.is_ok()).await;
    assert!(started.elapsed() >= Duration::from_secs(1), "after {:?}", started.elapsed());
}

#[tokio::test]
async fn not_ready_is_said_at_once_when_the_end_begins() {
    let folder = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::listen().await;
    let etcd = EtcdCluster::start(1).await;
    etcd.etcdctl(&["put", "service/mail/1", &upstream.address().to_string()]);
    let mut program = Program::start(folder.path(), &etcd.endpoint(0), &[]).await;
    assert_eq!(program.readiness().await.status, 200);
    let mut client = Client::connect(program.address).await;
    client.send("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The gateway's own checks connect, too.
    let mut conversation = loop {
        let mut conversation = upstream.accept().await;
        if matches!(conversation.read_request().await, Ok(Some(_))) {
            break conversation;
        }
    };
    program.ask_to_end();
    wait_until("not ready", SOON, async || program.readiness().await.status == 503).await;
    let readiness = program.readiness().await.text();
    assert!(readiness.contains("the last of its connection"), "{readiness}");
    assert_eq!(program.get("/").await.status, 200, "and yet new clients are answered");
    conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(program.wait(), Some(0), "{}", program.output());
}
