//! grpcio, the client that Python programs use, with what `grpc_tools` generates from the published `muster.proto`.

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use nix::sys::signal::Signal;
use testkit::{
    etcd::EtcdCluster,
    process::Process,
    python::{python, succeed},
    wait::{SOON, wait_until},
};

use super::Program;
use crate::support::{Registry, keys, leases};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../doc/muster.proto");

fn client() -> Command {
    let mut client = python("python");
    client.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/grpc_client.py")).arg(PROTO);
    // What tells of forks and the like would be in the way.
    client.env("GRPC_VERBOSITY", "NONE");
    client
}

#[tokio::test]
async fn grpcio_registers_lists_watches_and_leaves() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let mut client = client();
    client.arg("all").arg(registry.url.strip_prefix("http://").unwrap());
    let output = succeed(client, Duration::from_secs(60)).await;
    assert_eq!(output.lines().last(), Some("all of it"), "{output}");
    assert_eq!(keys(&etcd), [""; 0], "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcio_goes_on_at_another_registry_when_one_is_killed_or_frozen() {
    let etcd = EtcdCluster::start(1).await;
    let mut first = Program::start(&etcd).await;
    let mut second = Program::start(&etcd).await;
    let (a, b) = (first.address, second.address);
    let mut client = client();
    client.args(["stay", &a.to_string(), &b.to_string()]);
    let client = Process::start(&mut client, &etcd.dir().join("client.log")).unwrap();
    let told = |what: &str| client.output().lines().filter(|line| line.starts_with(what)).count();
    let taken = async |at: &str| {
        let what = format!("taken {at}");
        let before = told(&what);
        wait_until(&what, SOON, async || told(&what) > before + 2).await;
    };
    let changes = AtomicU16::new(1);
    let watched = async |at: &str| {
        let what = format!("watched {at}");
        let before = told(&what);
        wait_until(&what, SOON, async || {
            etcd.etcdctl(&[
                "put",
                "service/mail/other",
                &format!("10.0.0.9:{}", changes.fetch_add(1, Ordering::Relaxed)),
            ]);
            told(&what) > before
        })
        .await;
    };
    taken("").await;
    watched("").await;
    let granted = leases(&etcd);
    assert_eq!(granted, ["4f2a90c1d3e5b677"]);

    first.process.kill();
    taken(&b.to_string()).await;
    watched(&b.to_string()).await;
    let _first = Program::start_at(a, &etcd, |_| {}).await;
    second.process.signal(Signal::SIGSTOP);
    taken(&a.to_string()).await;
    watched(&a.to_string()).await;
    second.process.signal(Signal::SIGCONT);
    taken(&a.to_string()).await;
    assert_eq!(leases(&etcd), granted, "one life, whatever becomes of registries");
    assert_eq!(told("removed"), 0, "{}", client.output());
}
