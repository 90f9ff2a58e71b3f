//! A log that is not read any more: the registry goes on, and says later what it could not say.

use std::{
    io::{BufRead as _, BufReader, PipeReader},
    process::Command,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_for, wait_until},
};

/// The program, and the pipe that only the test reads.
struct Unread {
    process: Process,
    log: PipeReader,
    url: String,
    http: reqwest::Client,
}

impl Unread {
    async fn start(etcd: &EtcdCluster, filter: &str) -> Self {
        let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
        command.env_clear().env("REGISTRY_LISTEN", &listen).env("REGISTRY_DNS_LISTEN", "off");
        command.env("ETCD_ENDPOINTS", etcd.endpoint(0)).env("RUST_LOG", filter).env("LOG_FORMAT", "json");
        let (process, log) = Process::start_piped(&mut command, &etcd.dir().join("registry.out")).unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
        let unread = Self { process, log, url: format!("http://{listen}"), http };
        wait_until("it is ready", SOON, async || unread.get("/readyz").await.is_some_and(|(status, _)| status == 200))
            .await;
        unread
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    }

    async fn register(&self, number: usize) -> u16 {
        let body =
            format!(r#"{{"name":"service/mail","host":"10.0.{}.{}","port":7070}}"#, number / 200, number % 200 + 1);
        let answer = self.http.post(&self.url).body(body).send().await;
        answer.expect("an answer, also while the log is not read").status().as_u16()
    }

    async fn lost(&self) -> u64 {
        let (_, metrics) = self.get("/metrics").await.expect("metrics, also while the log is not read");
        let line = metrics.lines().find_map(|line| line.strip_prefix("log_lines_lost_total "));
        line.expect("the counter of lost lines").parse().unwrap()
    }
}

#[tokio::test]
async fn four_hundred_instances_register_while_nobody_reads_the_log() {
    let etcd = EtcdCluster::start(1).await;
    let mut registry = Unread::start(&etcd, "info").await;
    for number in 0..400 {
        wait_until("a heartbeat that is taken", SOON, async || registry.register(number).await == 200).await;
    }
    assert_eq!(registry.lost().await, 0, "the queue has room for all of that");
    assert!(registry.process.signal(Signal::SIGTERM));
    let status = registry.process.wait(SOON).expect("an end, although the last lines cannot be written");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn lines_that_are_lost_are_counted_and_told_of_when_the_log_is_read_again() {
    let etcd = EtcdCluster::start(1).await;
    let registry = Unread::start(&etcd, "trace").await;
    let lost = wait_for("lost lines", 3 * SOON, async || {
        for number in 0..100 {
            registry.register(number).await;
        }
        Some(registry.lost().await).filter(|lost| *lost > 0)
    });
    let lost = lost.await;
    let log = BufReader::new(registry.log.try_clone().unwrap());
    // The thread ends when the registry does, with the pipe.
    let told = tokio::task::spawn_blocking(move || {
        let lines = log.lines().map_while(Result::ok);
        let mut events = lines.map(|line| serde_json::from_str::<Value>(&line).expect("only whole lines"));
        events.find_map(|event| event["lost"].as_u64())
    });
    let told = tokio::time::timeout(SOON, told).await.expect("the line about the lost ones comes").unwrap();
    assert!(told.expect("it says how many") >= lost, "{told:?} of {lost}");
}

#[tokio::test]
async fn a_registration_is_one_line_without_its_request() {
    let etcd = EtcdCluster::start(1).await;
    let mut registry = Unread::start(&etcd, "info").await;
    wait_until("a heartbeat that is taken", SOON, async || registry.register(0).await == 200).await;
    assert!(registry.process.signal(Signal::SIGTERM));
    registry.process.wait(SOON).expect("an end");
    let lines = BufReader::new(&registry.log).lines().map_while(Result::ok);
    let events: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    let about = |event: &&Value| event["key"] == "service/mail/10.0.0.1:7070";
    let about: Vec<_> = events.iter().filter(about).collect();
    assert_eq!(about.len(), 1, "{about:?}");
    assert!(about[0]["message"] == "instance registered" && about[0].get("span").is_none(), "{about:?}");
    assert!(events.iter().all(|event| event.get("spans").is_none()), "{events:?}");
    assert_eq!(events.last().unwrap()["message"], "ended", "the last line is written before the process ends");
}
