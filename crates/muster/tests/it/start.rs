//! How a suite starts: with all that is needed, on free ports, and with a clear word when something is missing.

use std::{net::TcpListener, process::Output};

use nix::unistd::{Pid, getpgid};

use crate::suite::{Suite, process};

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_runs_and_is_said_with_the_lines_to_try() {
    let mut suite = Suite::new().with_variable("MAIL_LISTEN", "127.0.0.1:1").with_variable("NO_COLOR", "1");
    suite.start_and_wait().await;
    let state = suite.state();
    let processes = state["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 10, "{state:#}");
    assert!(processes.iter().all(|process| process["condition"] == "ready" && process["pid"].is_u64()), "{state:#}");
    for pid in suite.pids() {
        let group = getpgid(Some(Pid::from_raw(pid))).unwrap();
        assert_eq!(group.as_raw(), pid, "a Ctrl-C at the terminal must not reach it directly");
    }
    assert!(suite.stop().await.success());
    let output = suite.output();
    let port = state["ports"]["balance"].as_u64().unwrap();
    let put =
        format!(r#"curl -d '{{"method":"put","name":"dong","email":"d@example.com"}}' localhost:{port}/userlist"#);
    let mail = format!(r#"curl -d '{{"address":"a@b.c","message":"hello"}}' localhost:{port}/mail"#);
    let mails = suite.data().canonicalize().unwrap().join("mail");
    for part in [
        put.as_str(),
        &mail,
        &format!("ls {}/*.eml", mails.display()),
        "muster     │ ready in ",
        "Ctrl-C stops everything",
    ] {
        assert!(output.contains(part), "{part} is missing in\n{output}");
    }
    assert!(output.contains("not used here, because every process gets its own: MAIL_LISTEN"), "{output}");
    assert!(output.contains("userlist-1 │ userlist: listening on 127.0.0.1:"), "{output}");
    assert!(!output.contains('\x1b'), "a file is no terminal");
    for process in processes {
        assert!(output.contains(process["address"].as_str().unwrap()), "{process} is missing in the table\n{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_replaced_by_a_free_one_and_that_is_said() {
    // Whether this test has it or another program: the suite does not get it.
    let taken = TcpListener::bind("127.0.0.1:8080");
    let mut suite = Suite::new();
    suite.start_and_wait().await;
    let balance = suite.state()["ports"]["balance"].as_u64().unwrap();
    assert_ne!(balance, 8080, "{taken:?}");
    assert!(
        suite.output().contains(&format!("port 8080 is taken: balance uses {balance} instead")),
        "{}",
        suite.output()
    );
    assert!(suite.output().contains(&format!("localhost:{balance}/userlist")), "{}", suite.output());
    drop(taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_on_one_folder_are_refused_and_two_folders_are_not() {
    let mut one = Suite::new();
    let mut other = Suite::new();
    one.start();
    other.start();
    one.wait_for("the first suite", |state| state["phase"] == "ready").await;
    other.wait_for("the second suite", |state| state["phase"] == "ready").await;
    let refused = failed(&one.up().output().unwrap());
    assert!(refused.contains("another `muster up` (process ") && refused.contains("--data"), "{refused}");
    assert_eq!(one.state()["phase"], "ready", "the one that runs is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_programs_are_named_before_anything_is_started() {
    let suite = Suite::new();
    std::fs::remove_file(suite.folder().join("bin/mail")).unwrap();
    let refused = failed(&suite.up().output().unwrap());
    assert!(refused.contains("mail not found") && refused.contains("cargo build --release"), "{refused}");
    let refused = failed(&suite.up().args(["--etcd", "no-such-etcd"]).output().unwrap());
    assert!(refused.contains("etcd not found") && refused.contains("apt install etcd-server"), "{refused}");
    assert!(!suite.data().exists(), "a start that cannot succeed leaves nothing behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ready_in_time_is_said_with_its_reason_and_is_welcome_later() {
    let mut suite = Suite::new().with("--ready-within", "15s");
    suite.misbehave("userlist.unready", true);
    suite.start();
    let reason = "answers 503: database: it is gone fishing";
    let output = || std::fs::read_to_string(suite.folder().join("muster-1.log")).unwrap_or_default();
    testkit::wait::wait_until("the reason", crate::suite::LONG, async || output().contains(reason)).await;
    // 15 to 19.9 s.
    assert!(output().contains("not everything is ready after 1"), "{}", output());
    suite.wait_for("the rest to go on", |state| process(state, "mail-1")["condition"] == "ready").await;
    suite.misbehave("userlist.unready", false);
    suite.wait_for("the suite to be ready", |state| state["phase"] == "ready").await;
}
