//! When a program counts as well, and what the registry hears about it.

use std::{io::Write as _, net::TcpListener, time::Duration};

use nix::sys::signal::Signal;
use testkit::wait::{SOON, wait_until};

use crate::sidecar::{Folder, Sidecar, listener, wait_until_gone};

const FOR_EVER: &str = "while :; do sleep 0.05; done";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_announced_before_the_check_passes_and_critical_while_it_fails() {
    let options = ["--check-cmd", "test -e well"];
    let sidecar = Sidecar::start(Folder::new(), &options, Some(FOR_EVER));
    sidecar.prints("waiting for the check to pass").await;
    assert_eq!(sidecar.registry.received().len(), 0);
    sidecar.create("well");
    sidecar.registry.wait_for_word("PUT passing").await;
    sidecar.remove("well");
    sidecar.registry.wait_for_word("PUT critical").await;
    sidecar.registry.forget();
    sidecar.create("well");
    sidecar.registry.wait_for_word("PUT passing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_check_the_port_decides_and_without_a_program_too() {
    let (port_holder, port) = listener();
    drop(port_holder);
    let mut sidecar = Sidecar::start(Folder::new(), &["--port", &port, "--fall", "1"], None);
    sidecar.prints("nothing accepts connections").await;
    assert_eq!(sidecar.registry.received().len(), 0);
    let running = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    sidecar.registry.wait_for_word("PUT passing").await;
    let path = &sidecar.registry.received()[0].path;
    assert_eq!(*path, format!("/v1/services/web/instances/127.0.0.1:{port}"));
    drop(running);
    sidecar.registry.wait_for_word("PUT critical").await;
    sidecar.process.signal(Signal::SIGTERM);
    assert_eq!(sidecar.exit_code().await, 0);
    sidecar.registry.tells(&["PUT passing", "PUT critical", "PUT draining", "DELETE"]).await;
}

/// Answers every connection with this status line, or not at all.
fn http_program(status: Option<&'static str>) -> String {
    let (listener, port) = listener();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if let Some(status) = status {
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
            held.push(stream);
        }
    });
    format!("http://user:secret@127.0.0.1:{port}/healthz")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_check_passes_with_2xx_and_3xx_only_and_within_its_time() {
    for (status, passes) in [
        (Some("200 OK"), true),
        (Some("302 Found"), true),
        (Some("404 Not Found"), false),
        (Some("503 Service Unavailable"), false),
        (None, false),
    ] {
        let url = http_program(status);
        let options = ["--check-http", &url, "--check-timeout", "500ms"];
        let sidecar = Sidecar::start(Folder::new(), &options, Some(FOR_EVER));
        if passes {
            sidecar.registry.wait_for_word("PUT passing").await;
        } else {
            sidecar.prints("waiting for the check to pass").await;
            assert_eq!(sidecar.registry.received().len(), 0, "{status:?}");
        }
        assert!(!sidecar.process.output().contains("secret"), "{}", sidecar.process.output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_killed_with_everything_it_started() {
    let check = "test -e hang || exit 0; sleep 1000 & echo $! > hanging; wait";
    let options = ["--check-cmd", check, "--check-timeout", "500ms", "--fall", "1"];
    let sidecar = Sidecar::start(Folder::new(), &options, Some(FOR_EVER));
    sidecar.registry.wait_for_word("PUT passing").await;
    sidecar.create("hang");
    let hanging = sidecar.pid("hanging").await;
    sidecar.registry.wait_for_word("PUT critical").await;
    wait_until_gone(hanging).await;
    sidecar.prints("no answer within 500 ms").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_run_is_a_failing_check_with_a_reason() {
    let options = ["--check-cmd", "no-such-command-here"];
    let sidecar = Sidecar::start(Folder::new(), &options, Some(FOR_EVER));
    sidecar.prints("exit status: 127").await;
    assert_eq!(sidecar.registry.received().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fall_failures_in_a_row_are_needed_for_critical() {
    let check = "echo x >> asked; test -e well";
    let folder = Folder::new();
    folder.create("well");
    let options = ["--check-cmd", check, "--fall", "1000000"];
    let sidecar = Sidecar::start(folder, &options, Some(FOR_EVER));
    sidecar.registry.wait_for_word("PUT passing").await;
    sidecar.remove("well");
    sidecar.remove("asked");
    wait_until("some more checks", SOON, || async {
        sidecar.text("asked").is_some_and(|asked| asked.lines().count() > 3)
    })
    .await;
    tokio::time::timeout(Duration::from_secs(30), sidecar.registry.wait_for_heartbeats(2)).await.unwrap();
    assert_eq!(sidecar.registry.story(), ["PUT passing"]);
}
