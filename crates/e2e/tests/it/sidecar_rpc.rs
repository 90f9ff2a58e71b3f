//! The sidecar announces any program over gRPC, as it does over HTTP.

use std::process::Command;

use e2e::binaries;
use nix::sys::signal::Signal;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};

#[tokio::test]
async fn the_sidecar_registers_a_program_over_grpc_and_takes_it_back() {
    let etcd = EtcdCluster::start(1).await;
    let ports = free_ports(3);
    let registry = format!("127.0.0.1:{}", ports[0]);
    let mut command = Command::new(binaries::find("registry"));
    command.env_clear().env("ETCD_ENDPOINTS", etcd.endpoint(0)).env("REGISTRY_LISTEN", &registry);
    command.env("REGISTRY_DNS_LISTEN", "off");
    let _registry = Process::start(&mut command, &etcd.dir().join("registry.log")).unwrap();
    let mut command = Command::new(binaries::find("heartbeat"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let port = ports[1].to_string();
    command.args(["--service", "web", "--host", "127.0.0.1", "--port", &port]);
    // The first one is not there.
    command.args(["--registry", &format!("grpc://127.0.0.1:{},grpc://{registry}", ports[2])]);
    command.args(["--", "python3", "-m", "http.server", &port, "--bind", "127.0.0.1", "--directory"]).arg(etcd.dir());
    let mut sidecar = Process::start(&mut command, &etcd.dir().join("sidecar.log")).unwrap();
    let registered = || etcd.etcdctl(&["get", &format!("service/web/127.0.0.1:{port}"), "--print-value-only"]);
    wait_until("it is registered", SOON, async || registered().starts_with(&format!("127.0.0.1:{port}"))).await;
    assert!(sidecar.signal(Signal::SIGTERM));
    wait_until("it has left", SOON, async || registered().is_empty()).await;
    assert!(sidecar.wait(SOON).is_some(), "{}", sidecar.output());
}
