//! `muster up`, which is what `make run` runs, with the real programs.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use e2e::binaries;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use testkit::{
    process::Process,
    wait::{wait_for, wait_until},
};

/// For a start of eleven processes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the suite on `data`, and waits until it says that it is ready.
async fn up(data: &Path) -> (Process, Value) {
    let mut command = Command::new(binaries::find("muster"));
    command.args(["up", "--data"]).arg(data).env_remove("RUST_LOG").stdin(Stdio::null());
    let muster = Process::start(&mut command, &data.with_extension("log")).unwrap();
    let state = wait_for("readiness", PATIENCE, async || state(data).filter(|state| state["phase"] == "ready")).await;
    (muster, state)
}

fn state(data: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(data.join("muster.json")).ok()?).ok()
}

async fn end(mut muster: Process) {
    assert!(muster.signal(Signal::SIGINT), "muster must still be running");
    wait_until("the end of muster", PATIENCE, || {
        let ended = !muster.is_running();
        async move { ended }
    })
    .await;
    assert!(muster.wait(Duration::ZERO).is_some_and(|status| status.success()), "{}", muster.output());
}

async fn post(state: &Value, service: &str, body: Value) -> (u16, Value) {
    let url = format!("{}/{service}", state["gateway"].as_str().unwrap());
    let response = reqwest::Client::new().post(url).body(body.to_string()).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

fn pid(state: &Value, name: &str) -> Pid {
    let processes = state["processes"].as_array().unwrap();
    let process = processes.iter().find(|process| process["name"] == name).unwrap();
    Pid::from_raw(i32::try_from(process["pid"].as_i64().unwrap()).unwrap())
}

#[tokio::test]
async fn the_suite_runs_survives_a_kill_and_keeps_its_users_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (muster, first) = up(&data).await;
    let (status, user) = post(&first, "userlist", json!({"method":"put","name":"dong","email":"d@example.com"})).await;
    assert_eq!((status, &user["name"]), (200, &json!("dong")), "{user}");
    let (status, sent) = post(&first, "mail", json!({"address":"a@b.c","message":"hello"})).await;
    assert_eq!((status, sent), (200, json!({"message":"success"})));
    let mails = std::fs::read_dir(data.join("mail")).unwrap().flatten();
    assert_eq!(mails.filter(|file| file.path().extension().is_some_and(|end| end == "eml")).count(), 1);

    let killed = pid(&first, "mail-1");
    kill(killed, Signal::SIGKILL).unwrap();
    wait_until("mail-1 running again", PATIENCE, async || {
        state(&data).is_some_and(|state| {
            let process =
                state["processes"].as_array().into_iter().flatten().find(|process| process["name"] == "mail-1");
            process.is_some_and(|process| {
                process["condition"] == "ready" && process["pid"].as_i64() != Some(killed.as_raw().into())
            })
        })
    })
    .await;
    end(muster).await;

    let (muster, second) = up(&data).await;
    let (status, kept) = post(&second, "userlist", json!({"method":"get","name":"dong"})).await;
    assert_eq!((status, &kept), (200, &user), "users survive a restart");
    end(muster).await;
}
