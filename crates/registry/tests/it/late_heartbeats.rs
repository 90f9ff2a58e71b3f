//! A heartbeat that waited in a registry that was stopped brings back nobody who has left since.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    sockets::wait_until_closed_by_client,
    wait::{SOON, wait_until},
};

use crate::support::{Registry, instance_path, keys};

/// A registry as a process, which can be stopped.
struct Frozen {
    process: Process,
    address: SocketAddr,
}

impl Frozen {
    async fn start(etcd: &EtcdCluster) -> Self {
        let address: SocketAddr = format!("127.0.0.1:{}", free_ports(1)[0]).parse().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
        command.env_clear().env("REGISTRY_LISTEN", address.to_string()).env("REGISTRY_DNS_LISTEN", "off");
        command.env("ETCD_ENDPOINTS", etcd.endpoint(0));
        let process = Process::start(&mut command, &etcd.dir().join("frozen.log")).unwrap();
        let this = Self { process, address };
        wait_until("it is ready", SOON, async || this.ask("GET", "/readyz", "").contains(" 200 ")).await;
        this
    }

    /// Sends a request, and does not wait for the answer.
    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        stream
    }

    /// Nothing at all while nobody listens yet.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let Ok(probe) = TcpStream::connect(self.address) else { return String::new() };
        drop(probe);
        read(self.send(method, path, body))
    }
}

fn read(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_waited_in_a_frozen_registry_registers_nothing() {
    let etcd = EtcdCluster::start(1).await;
    let mut frozen = Frozen::start(&etcd).await;
    let registry = Registry::start(&etcd).await;
    let path = instance_path("mail/a");
    let new = json!({ "address": "10.0.0.5:7070", "incarnation": "new" }).to_string();
    let reply = registry.beat("mail/a", &new).await;
    let life = reply["incarnation"].as_str().unwrap();
    let late = json!({ "address": "10.0.0.5:7070", "incarnation": life }).to_string();
    assert!(frozen.ask("PUT", &path, &late).contains(" 200 "));

    frozen.process.signal(Signal::SIGSTOP);
    let waiting = frozen.send("PUT", &path, &late);
    let tag = format!("\"{life}\"");
    registry.ask_with(Method::DELETE, &path, Some(("If-Match", &tag)), "").await.accepted();
    frozen.process.signal(Signal::SIGCONT);
    let answer = tokio::task::spawn_blocking(|| read(waiting)).await.unwrap();
    assert!(answer.contains(" 409 ") && answer.contains("incarnation_ended"), "{answer}");
    assert!(keys(&etcd).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_that_its_sender_has_given_up_begins_nothing() {
    let etcd = EtcdCluster::start(1).await;
    let mut frozen = Frozen::start(&etcd).await;
    frozen.process.signal(Signal::SIGSTOP);
    let bodies =
        (0..20).map(|n| json!({ "address": format!("10.0.0.5:{}", 7000 + n), "incarnation": "new" }).to_string());
    for (n, body) in bodies.enumerate() {
        // As a client does whose time is over.
        drop(frozen.send("PUT", &instance_path(&format!("mail/{n}")), &body));
    }
    wait_until_closed_by_client(frozen.address, 20, SOON);
    frozen.process.signal(Signal::SIGCONT);
    // Those before are dealt with when this one is answered and no work is under way.
    let settled = json!({ "address": "10.0.0.5:6000", "incarnation": "new" }).to_string();
    wait_until("the registry works again", SOON, async || {
        frozen.ask("PUT", &instance_path("probe/p"), &settled).contains(" 200 ")
    })
    .await;
    wait_until("nothing is under way", SOON, async || {
        frozen.ask("GET", "/metrics", "").contains("registry_requests_under_way 0")
    })
    .await;
    assert_eq!(keys(&etcd), ["service/probe/p"]);
}
