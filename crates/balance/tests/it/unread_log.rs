//! A log that is not read any more: the gateway goes on, and says later what it could not say.

use std::{
    io::{BufRead, BufReader, PipeReader},
    net::SocketAddr,
    process::Command,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    upstream::Upstream,
    wait::{SOON, wait_for},
};

use crate::support::Client;

/// The program, whose log was read until it served, and from then on is not.
struct Unread {
    process: Process,
    log: BufReader<PipeReader>,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Unread {
    async fn start(etcd: &EtcdCluster) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_balance"));
        command.env_clear().env("LOG_FORMAT", "json").env("ETCD_ENDPOINTS", etcd.endpoint(0));
        command.args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--workers=2"]);
        let output = tempfile::NamedTempFile::new().unwrap();
        let (process, log) = Process::start_piped(&mut command, output.path()).unwrap();
        let serving = tokio::task::spawn_blocking(move || {
            let mut log = BufReader::new(log);
            let event = loop {
                let event = event(&mut log).expect("it serves before it ends");
                if event["message"] == "serving" {
                    break event;
                }
            };
            let address = |name: &str| event[name].as_str().unwrap().parse().unwrap();
            (log, address("address"), address("admin"))
        });
        let (log, address, admin) = tokio::time::timeout(SOON, serving).await.expect("it serves soon").unwrap();
        Self { process, log, address, admin }
    }

    async fn metrics(&self) -> String {
        Client::connect(self.admin).await.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.text()
    }

    async fn lost(&self) -> u64 {
        let metrics = self.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix("log_lines_lost_total "));
        line.expect("the counter of lost lines").parse().unwrap()
    }
}

/// The next line; none at the end.
fn event(log: &mut impl BufRead) -> Option<Value> {
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    (!line.is_empty()).then(|| serde_json::from_str(&line).expect("only whole lines"))
}

/// Fills pipe and queue with what the gateway says about keys that it cannot read, which is as long as the keys; how many
/// lines are lost then.
async fn fill(gateway: &Unread, etcd: &EtcdCluster) -> u64 {
    let long = "x".repeat(60_000);
    let number = std::cell::Cell::new(0);
    let full = wait_for("lost lines", 3 * SOON, async || {
        number.set(number.get() + 1);
        etcd.etcdctl(&["put", &format!("service/other/{}{long}", number.get()), "no address"]);
        Some(gateway.lost().await).filter(|lost| *lost > 0)
    });
    full.await
}

#[tokio::test]
async fn requests_go_on_and_instances_are_ejected_while_nobody_reads_the_log() {
    let etcd = EtcdCluster::start(1).await;
    let mail = Upstream::named("mail").await;
    let dead = free_ports(1)[0];
    // Without checks, so that requests find out.
    etcd.etcdctl(&["put", "config/mail", r#"{"health":{"active":{"kind":"off"}}}"#]);
    etcd.etcdctl(&["put", "service/mail/living", &mail.address().to_string()]);
    etcd.etcdctl(&["put", "service/mail/dead", &format!("127.0.0.1:{dead}")]);
    let mut gateway = Unread::start(&etcd).await;
    let lost = fill(&gateway, &etcd).await;
    for _ in 0..50 {
        let answer = Client::connect(gateway.address).await.ask("GET /mail HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "mail"));
    }
    let metrics = gateway.metrics().await;
    let ejections = metrics.lines().find(|line| line.starts_with("balance_ejections_total{service=\"mail\"}"));
    assert!(ejections.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");

    let mut log = gateway.log;
    // The thread ends when the gateway does, with the pipe.
    let told = tokio::task::spawn_blocking(move || {
        std::iter::from_fn(|| event(&mut log)).find_map(|event| event["lost"].as_u64())
    });
    let told = tokio::time::timeout(SOON, told).await.expect("the line about the lost ones comes").unwrap();
    assert!(told.expect("it says how many") > lost, "{told:?} of {lost}, and the ejection");
    assert!(gateway.process.is_running());
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_log_that_nobody_reads() {
    let etcd = EtcdCluster::start(1).await;
    let mut gateway = Unread::start(&etcd).await;
    fill(&gateway, &etcd).await;
    assert!(gateway.process.signal(Signal::SIGTERM));
    let status = gateway.process.wait(SOON).expect("an end soon");
    assert_eq!(status.code(), Some(0));
}
