//! A service of someone else: Python behind gunicorn, that writes down itself what it has carried out.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
};

use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    python::python,
    wait::{SOON, wait_until},
};
use tokio::net::TcpStream;

use crate::binaries;

/// Carries out what has an `X-Number`, for `X-Sleep` seconds, and writes `METHOD NUMBER` down when it begins. A version
/// that all instances share is raised by each PUT, which may demand one with `If-Match`.
const APP: &str = r#"
import fcntl, os, time

def app(environ, start_response):
    number, method = environ.get("HTTP_X_NUMBER"), environ["REQUEST_METHOD"]
    status = "200 OK"
    if number:
        with open("record", "ab", 0) as record:
            record.write(f"{method} {number}\n".encode())
        status = carry_out(environ, method)
    body = b"" if method == "HEAD" else b"done"
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

def carry_out(environ, method):
    demanded = environ.get("HTTP_IF_MATCH")
    if method == "PUT":
        with open("version", "a+") as version:
            fcntl.flock(version, fcntl.LOCK_EX)
            version.seek(0)
            current = version.read() or "1"
            if demanded and demanded != current:
                return "412 Precondition Failed"
            version.truncate(0)
            version.write(str(int(current) + 1))
    time.sleep(float(environ.get("HTTP_X_SLEEP", "0")))
    return "200 OK"
"#;

/// A gateway before two instances of the service `slow`, with one etcd member; it ends with this value.
#[derive(Debug)]
pub struct SlowService {
    _etcd: EtcdCluster,
    _instances: Vec<Process>,
    balance: Process,
    gateway: SocketAddr,
    folder: tempfile::TempDir,
}

// === impl SlowService ===

impl SlowService {
    /// Two instances of so many worker processes, each with so many threads. `value` is what follows the address in
    /// etcd.
    ///
    /// # Panics
    ///
    /// A program is not there, or does not start.
    pub async fn start(workers: usize, threads: usize, value: &str) -> Self {
        let etcd = EtcdCluster::start(1).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("app.py"), APP).expect("a file in the temporary folder");
        let addresses: Vec<SocketAddr> =
            free_ports(4).into_iter().map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        let mut instances = Vec::new();
        for (n, address) in addresses[..2].iter().enumerate() {
            let mut gunicorn = python("gunicorn");
            gunicorn.current_dir(folder.path()).args(["--bind", &address.to_string(), "--worker-tmp-dir", "."]);
            gunicorn.args(["--workers", &workers.to_string(), "--threads", &threads.to_string(), "app:app"]);
            let output = folder.path().join(format!("gunicorn-{n}.log"));
            instances.push(Process::start(&mut gunicorn, &output).expect("gunicorn starts"));
            wait_until("gunicorn", SOON, async || TcpStream::connect(address).await.is_ok()).await;
            etcd.etcdctl(&["put", &format!("service/slow/{n}"), &format!("http://{address}{value}")]);
        }
        let mut balance = Command::new(binaries::find("balance"));
        balance.env_clear().env("LOG_FORMAT", "text").env("ETCD_ENDPOINTS", etcd.endpoint(0));
        balance.env("BALANCE_LISTEN", addresses[2].to_string()).env("BALANCE_ADMIN_LISTEN", addresses[3].to_string());
        let balance = Process::start(&mut balance, &folder.path().join("balance.log")).expect("balance starts");
        let service = Self { _etcd: etcd, _instances: instances, balance, gateway: addresses[2], folder };
        let client = reqwest::Client::new();
        wait_until("the gateway", SOON, async || {
            client.get(service.url()).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        service
    }

    /// The service behind the gateway.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/slow", self.gateway)
    }

    /// How often each number was carried out, as the instances wrote it down.
    #[must_use]
    pub fn carried_out(&self) -> BTreeMap<u64, usize> {
        let record = std::fs::read_to_string(self.file("record")).unwrap_or_default();
        let mut counts = BTreeMap::new();
        for number in record.lines().filter_map(|line| line.split_once(' ')?.1.parse().ok()) {
            *counts.entry(number).or_insert(0) += 1;
        }
        counts
    }

    /// The version that PUTs have raised.
    #[must_use]
    pub fn version(&self) -> String {
        std::fs::read_to_string(self.file("version")).unwrap_or_default()
    }

    /// Lines of the gateway's log that say that an instance is out of rotation.
    #[must_use]
    pub fn ejections(&self) -> Vec<String> {
        let says = |line: &&str| line.contains("is ejected") || line.contains("out of rotation");
        self.balance.output().lines().filter(says).map(str::to_owned).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
