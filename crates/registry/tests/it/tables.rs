//! Tables of services, and what they are about.

use std::{fs, path::PathBuf, time::Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    python::python,
    wait::{SOON, wait_until},
};
use tokio::net::TcpListener;

use crate::support::Registry;

/// A `services.json` in a folder of its own.
pub(crate) struct ServicesFile(TempDir);

impl ServicesFile {
    pub(crate) fn new(instances: &Value) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.put(instances);
        file
    }

    /// Another version takes its place at once.
    pub(crate) fn put(&self, instances: &Value) {
        let new = self.0.path().join("new");
        fs::write(&new, json!({ "instances": instances }).to_string()).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    /// Whatever this is.
    pub(crate) fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("services.json")
    }
}

impl Registry {
    /// A registry with a table.
    pub(crate) async fn with_table(etcd: &EtcdCluster, file: &ServicesFile) -> Self {
        Self::start_with(etcd, |config| config.table.services_file = Some(file.path())).await
    }

    /// What it says of an instance of its table; `Null` when that is not there.
    pub(crate) async fn checked(&self, id: &str) -> Value {
        let answer = self.get("/v1/table").await.accepted();
        let instances = answer["instances"].as_array().expect("a list").clone();
        instances.into_iter().find(|one| one["id"] == id).unwrap_or_default()
    }

    /// Waits until an instance of the table is like this, and returns how it is.
    pub(crate) async fn wait_for_state(&self, id: &str, state: &str) -> Value {
        wait_until(&format!("{id} is {state}"), SOON, async || self.checked(id).await["state"] == state).await;
        self.checked(id).await
    }
}

/// A service of an instance that checks find well for as long as this lives.
pub(crate) async fn listening() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// How long an instance of a table stays registered by default.
const TTL_SECS: u64 = 15;

/// Waits until a lease of the default TTL has been kept alive since `then`.
pub(crate) async fn wait_until_kept(etcd: &EtcdCluster, lease: &str, then: Instant) {
    wait_until("the lease is kept alive", SOON, async || {
        let said = etcd.etcdctl(&["lease", "timetolive", lease]);
        let remaining = said.split_once("remaining(").and_then(|(_, rest)| rest.split_once("s)")?.0.parse().ok());
        let unkept = TTL_SECS.saturating_sub(then.elapsed().as_secs());
        remaining.is_some_and(|remaining: u64| remaining > unkept)
    })
    .await;
}

/// A check that is done twice a second; two results in a row count.
pub(crate) fn quick(kind: &str, more: &Value) -> Value {
    let mut check = json!({ "type": kind, "interval": "500ms", "timeout": "5s", "rise": 2, "fall": 2 });
    check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    check
}

/// A service of another make, in Python; see `checked_service.py`.
pub(crate) struct PythonService {
    folder: TempDir,
    pub(crate) address: String,
    _process: Process,
}

impl PythonService {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_ports(1)[0].to_string();
        let mut command = python("python");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/checked_service.py"));
        command.arg(folder.path()).arg(&port);
        let process = Process::start(&mut command, &folder.path().join("output")).unwrap();
        let this = Self { address: format!("127.0.0.1:{port}"), folder, _process: process };
        this.set("status", "200");
        this.set("delay", "0");
        let connects = async || tokio::net::TcpStream::connect(&this.address).await.is_ok();
        wait_until("the service listens", SOON, connects).await;
        this
    }

    /// From now on it answers so.
    pub(crate) fn set(&self, what: &str, value: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, value).unwrap();
        fs::rename(new, self.folder.path().join(what)).unwrap();
    }

    /// How it is checked.
    pub(crate) fn check(&self, more: &Value) -> Value {
        let mut check = quick("http", &json!({ "path": "/up", "headers": { "X-Check": "secret" } }));
        check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        check
    }
}
