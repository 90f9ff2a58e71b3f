//! The program as it is started in production: arguments, signals, exit codes.

use std::{
    process::{Command, Output},
    time::Duration,
};

use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};

fn registry(listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
    command.env_clear().env("REGISTRY_LISTEN", listen);
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program was built")
}

#[tokio::test]
async fn it_starts_without_etcd_finds_it_later_and_ends_on_sigterm_without_deregistering() {
    let mut etcd = EtcdCluster::start(1).await;
    etcd.stop(0);
    let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
    let mut command = registry(&listen);
    command.env("ETCD_ENDPOINTS", etcd.endpoint(0)).env("LOG_FORMAT", "json");
    let mut process = Process::start(&mut command, &etcd.dir().join("registry.log")).unwrap();
    wait_until("it is alive", SOON, async || run(registry(&listen).arg("--healthcheck")).status.success()).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(http.get(format!("http://{listen}/readyz")).send().await.unwrap().status(), 503);

    etcd.restart(0).await;
    let heartbeat = async || {
        let body = r#"{"name":"service/mail","host":"10.0.0.5","port":7070}"#;
        http.post(format!("http://{listen}/")).body(body).send().await.unwrap().status().as_u16()
    };
    wait_until("a heartbeat is accepted", SOON, async || heartbeat().await == 200).await;
    assert!(process.signal(nix::sys::signal::Signal::SIGTERM));
    let status = process.wait(SOON).expect("it ends soon");
    assert_eq!(status.code(), Some(0), "{}", process.output());
    assert_eq!(etcd.etcdctl(&["get", "service/", "--prefix", "--keys-only"]).trim(), "service/mail/10.0.0.5:7070");
    assert!(process.output().contains("instance registered"), "{}", process.output());
}

#[test]
fn every_mistake_in_the_configuration_is_said_at_once() {
    let output = run(registry("nowhere").env("ETCD_TIMEOUT", "2").env("ETCD_CA_FILE", ""));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("REGISTRY_LISTEN") && said.contains("ETCD_TIMEOUT"), "{said}");

    let output = run(registry("127.0.0.1:0").env("ETCD_ENDPOINTS", "ftp://a:1").env("ETCD_KEY_FILE", "/nowhere"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("ftp://a:1") && said.contains("/nowhere"), "{said}");
}

#[test]
fn a_taken_address_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = run(&mut registry(&listen));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    // The test's own program.
    assert!(said.contains(&format!("cannot listen on {listen}: it is held by it-")), "{said}");
}

#[test]
fn nothing_answers_a_healthcheck_when_nothing_runs() {
    let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
    let started = std::time::Instant::now();
    assert_eq!(run(registry(&listen).arg("--healthcheck")).status.code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(20));
}
