//! The program as it is started in production: arguments, signals, exit codes.

use std::process::Command;

use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    wait::{SOON, wait_until},
};

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

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = balance().args(["--listen", &address, "--admin-listen=127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}
