//! The clients of doc/dialects.md work as they stand there.

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use muster_proto::v1::{DeregisterRequest, Heartbeat, Instance, WatchRequest, registry_client::RegistryClient};
use testkit::{
    etcd::EtcdCluster,
    python::{python, succeed},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{Registry, keys};

const PAGE: &str = include_str!("../../../../../doc/dialects.md");

/// The first block of a language in the part about gRPC.
fn block(language: &str) -> &'static str {
    let (_, part) = PAGE.split_once("## Over gRPC").expect("the part about gRPC");
    let (_, rest) = part.split_once(&format!("```{language}\n")).expect("a block");
    rest.split_once("```").expect("its end").0
}

// What follows is on the page.
#[expect(clippy::print_stdout, reason = "an example shows what it got")]
async fn announce(url: String) -> Result<(), Box<dyn std::error::Error>> {
    let mut registry = RegistryClient::connect(url).await?;
    let (heartbeats, sent) = tokio::sync::mpsc::channel(1);
    let mut replies = registry.register(ReceiverStream::new(sent)).await?.into_inner();
    let mut life = "new".to_owned();
    for _ in 0..2 {
        let instance = Instance { address: "127.0.0.1:8000".to_owned(), ..Instance::default() };
        let heartbeat = Heartbeat {
            service: "web".to_owned(),
            id: "web-1".to_owned(),
            instance: Some(instance),
            incarnation: life,
            ..Heartbeat::default()
        };
        heartbeats.send(heartbeat).await?;
        let reply = replies.message().await?.ok_or("the registry ends: open another stream")?;
        tokio::time::sleep(Duration::from_millis(reply.next_heartbeat_ms)).await;
        life = reply.incarnation;
    }
    let watch = WatchRequest { service: "web".to_owned(), index: 0 };
    let mut changes = registry.watch(watch).await?.into_inner();
    println!("{:?}", changes.message().await?);
    let leave = DeregisterRequest { service: "web".to_owned(), id: "web-1".to_owned(), incarnation: life };
    registry.deregister(leave).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_clients_work_when_pasted() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Registry::start(&etcd).await;
    let address = registry.url.strip_prefix("http://").unwrap();
    assert!(include_str!("documented.rs").contains(block("rust")), "the page and this file differ");
    announce(registry.url.clone()).await.unwrap();
    assert_eq!(keys(&etcd), [""; 0]);

    let script = format!(
        "set -e\ncurl() {{ command curl -sS --fail-with-body \"$@\"; }}\n{}\ncat > client.py <<'END'\n{}\nEND\npython client.py\n",
        block("sh"),
        block("python")
    );
    let mut shell = Command::new("sh");
    let programs = std::path::PathBuf::from(python("python").get_program());
    let others = std::env::var_os("PATH").unwrap();
    let path = format!("{}:{}", programs.parent().unwrap().display(), others.display());
    shell.args(["-c", &script.replace("localhost:8500", address)]).env("PATH", path);
    let started = SystemTime::now();
    let output = succeed(shell, Duration::from_secs(60)).await;
    assert!(output.contains("['127.0.0.1:8000']") && output.contains("True 1 until"), "{output}");
    assert!(started.elapsed().unwrap() > Duration::from_secs(2), "heartbeats come when they are asked for");
    assert_eq!(keys(&etcd), [""; 0]);
}
