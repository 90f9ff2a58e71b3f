//! The binary itself: its start, its end, its log.

use std::{path::Path, process::Command};

use nix::sys::signal::Signal;
use reqwest::Method;
use testkit::{
    database::{Database, PASSWORD},
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_for_eq, wait_until},
};

use crate::{
    fake_registry::FakeRegistry,
    service::{Client, NO_REGISTRY},
};

/// A process of its own.
#[derive(Debug)]
pub(crate) struct Userlist {
    pub(crate) process: Process,
    pub(crate) client: Client,
}

// === impl Userlist ===

impl Userlist {
    pub(crate) fn start(folder: &Path, database_url: &str) -> Self {
        Self::start_with(folder, &[("USERLIST_DATABASE_URL", database_url), ("REGISTRY_URLS", NO_REGISTRY)])
    }

    pub(crate) fn start_with(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
        let mut command = command(folder);
        command.env("USERLIST_LISTEN", &listen).envs(variables.iter().copied());
        let process = Process::start(&mut command, &folder.join(format!("{listen}.log"))).unwrap();
        Self { process, client: Client::new(format!("http://{listen}")) }
    }
}

/// In an empty environment, in `folder`.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_userlist"));
    command.env_clear().current_dir(folder);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_deregisters_finishes_and_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let registry = FakeRegistry::start().await;
    let mut userlist = Userlist::start_with(folder.path(), &[("REGISTRY_URLS", &registry.url)]);
    userlist.client.wait_until_ready().await;
    wait_for_eq("status", SOON, Some(discovery::Status::Passing), || async { registry.last() }).await;
    assert!(folder.path().join("data/userlist.db").exists(), "the default is a file in a folder that it creates");
    let healthy = command(folder.path())
        .args(["--healthcheck", "--listen", userlist.client.address("").trim_start_matches("http://")])
        .status();
    assert_eq!(healthy.unwrap().code(), Some(0));

    assert!(userlist.process.signal(Signal::SIGTERM));
    let status = userlist.process.wait(SOON).expect("it ends soon");
    assert_eq!(status.code(), Some(0), "{}", userlist.process.output());
    wait_until("it left in order", SOON, || async { registry.has_left() }).await;
    // The write-ahead log is folded into the file, which is then whole by itself.
    assert!(!folder.path().join("data/userlist.db-wal").exists());
}

#[test]
fn a_wrong_configuration_ends_with_64_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let run = |url: &str, listen: &str| {
        let output = command(folder.path()).env("USERLIST_DATABASE_URL", url).env("USERLIST_LISTEN", listen).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run("mysql://u:hunter2@host", "127.0.0.1:0");
    assert_eq!(code, Some(64));
    assert!(text.contains("--database-url (USERLIST_DATABASE_URL): it names no database"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let (code, text) = run("mysql://u:hunter2@host", "nowhere");
    assert!(code == Some(64) && text.contains("USERLIST_LISTEN") && !text.contains("hunter2"), "{text}");

    let help = command(folder.path()).env("USERLIST_DATABASE_URL", "mysql://u:hunter2@h/d").arg("--help").output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    assert!(help.contains("USERLIST_DATABASE_URL") && !help.contains("hunter2"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_no_address_and_no_password_is_in_the_log() {
    let mut database = Database::start().await;
    let url = database.create("users");
    let folder = tempfile::tempdir().unwrap();
    let mut userlist = Userlist::start(folder.path(), &url);
    let client = userlist.client.clone();
    client.wait_until_ready().await;

    let requests = async || {
        client.plain(r#"{"method":"put","name":"Zacharias","email":"zach@secret.example"}"#).await;
        client.plain(r#"{"method":"put","name":"Zacharias","email":"zach@secret..example"}"#).await;
        client.send(Method::POST, "/v1/users", r#"{"name":"Zacharias","email":"zach@secret.example"}"#).await;
        client.get("/v1/users/Zacharias").await;
        client.send(Method::DELETE, "/v1/users/Zacharias-who-is-not-there", "").await;
    };
    requests().await;
    // Everything that can go wrong with the database, with requests under way.
    database.sql("SET GLOBAL read_only = 1");
    requests().await;
    database.sql("SET GLOBAL read_only = 0; DROP TABLE users.users");
    requests().await;
    database.sql("DROP DATABASE users; CREATE DATABASE users");
    wait_until("put works again", SOON, async || {
        client.plain(r#"{"method":"put","name":"Zacharias","email":"zach@secret.example"}"#).await.status == 200
    })
    .await;
    database.sql("ALTER TABLE users.users DROP COLUMN email");
    requests().await;
    database.freeze();
    requests().await;
    database.thaw();
    database.kill();
    requests().await;
    wait_until("the outage is logged", SOON, || async { userlist.process.output().contains("connection refused") })
        .await;
    assert!(userlist.process.signal(Signal::SIGTERM));
    userlist.process.wait(SOON).expect("it ends soon");

    let log = userlist.process.output();
    assert!(log.contains("the database cannot be used") && log.contains("\"ended\""), "{log}");
    for secret in ["Zacharias", "zach", "secret", PASSWORD, "m%20u"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
