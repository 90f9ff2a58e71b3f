//! It is the program that listens on the port, and where it is announced is where it listens.

use std::net::TcpListener;

use nix::sys::signal::Signal;
use testkit::wait::{SOON, wait_until};

use crate::sidecar::{Folder, Sidecar, free_port, listener};

const FOR_EVER: &str = "while :; do sleep 0.05; done";

/// Listens on this port, with `SO_REUSEPORT` if it is to be shared.
fn program(host: &str, port: &str, is_shared: bool) -> String {
    let family = if host.contains(':') { "AF_INET6" } else { "AF_INET" };
    let option = if is_shared { "SO_REUSEPORT" } else { "SO_REUSEADDR" };
    format!(
        "exec python3 -c 'import socket\n\
         s = socket.socket(socket.{family}); s.setsockopt(socket.SOL_SOCKET, socket.{option}, 1)\n\
         s.bind((\"{host}\", {port})); s.listen(16); print(\"listening\", flush=True)\n\
         while True: s.accept()[0].close()'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_waits_for_the_port_and_takes_over_when_the_first_ends() {
    let port = free_port();
    let options = ["--port", &port, "--let-go", "0s"];
    let script = program("127.0.0.1", &port, false);
    let mut first = Sidecar::start(Folder::new(), &options, Some(&script));
    first.registry.wait_for_word("PUT passing").await;
    let second = Sidecar::start(Folder::new(), &options, Some(&script));
    second.prints("the port is taken").await;
    if cfg!(target_os = "linux") {
        second.prints("python3 (process").await;
    }
    assert_eq!(second.registry.received().len(), 0);
    assert!(!second.process.output().contains("heartbeat::program"), "{}", second.process.output());
    first.process.signal(Signal::SIGTERM);
    first.exit_code().await;
    second.registry.wait_for_word("PUT passing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_waiting_for_the_port() {
    let (_holder, port) = listener();
    let mut sidecar = Sidecar::start(Folder::new(), &["--port", &port], Some("echo ran > ran"));
    sidecar.prints("the port is taken").await;
    sidecar.process.signal(Signal::SIGTERM);
    assert_eq!(sidecar.exit_code().await, 0);
    assert_eq!(sidecar.text("ran"), None);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_something_else_listens_on_is_not_announced_as_the_program() {
    for check in [&[][..], &["--check-cmd", "true"]] {
        let (_holder, port) = listener();
        let options = [&["--port", &port, "--listeners", "shared"], check].concat();
        let sidecar = Sidecar::start(Folder::new(), &options, Some(FOR_EVER));
        sidecar.prints("which this sidecar did not start").await;
        assert_eq!(sidecar.registry.received().len(), 0, "{check:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_listens_is_announced_when_that_is_asked_for() {
    let (_holder, port) = listener();
    let sidecar = Sidecar::start(Folder::new(), &["--port", &port, "--listeners", "any"], Some(FOR_EVER));
    sidecar.registry.wait_for_word("PUT passing").await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_loses_the_port_to_another_is_critical() {
    let port = free_port();
    let script = format!("{} & echo $! > listening; wait; {FOR_EVER}", program("127.0.0.1", &port, false));
    let sidecar = Sidecar::start(Folder::new(), &["--port", &port, "--fall", "5"], Some(&script));
    sidecar.registry.wait_for_word("PUT passing").await;
    let listening = sidecar.pid("listening").await;
    nix::sys::signal::kill(listening, Signal::SIGKILL).unwrap();
    let address = format!("127.0.0.1:{port}");
    let mut holder = None;
    wait_until("the port to be had by another", SOON, || {
        holder = holder.take().or_else(|| TcpListener::bind(&address).ok());
        let is_had = holder.is_some();
        async move { is_had }
    })
    .await;
    sidecar.registry.wait_for_word("PUT critical").await;
    sidecar.prints("which this sidecar did not start").await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn two_copies_share_a_port_when_they_are_told_to() {
    let port = free_port();
    let options = ["--port", &port, "--listeners", "shared", "--let-go", "0s"];
    let script = program("127.0.0.1", &port, true);
    let mut old = Sidecar::start(Folder::new(), &options, Some(&script));
    old.registry.wait_for_word("PUT passing").await;
    let new = Sidecar::start(Folder::new(), &options, Some(&script));
    new.registry.wait_for_word("PUT passing").await;
    old.process.signal(Signal::SIGTERM);
    old.exit_code().await;
    let heartbeats = new.registry.heartbeats().len();
    new.registry.wait_for_heartbeats(heartbeats + 1).await;
    assert_eq!(new.registry.story(), ["PUT passing"]);
}

/// As Node.js does with `localhost`.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_listens_on_the_other_loopback_address_only_is_announced_by_that() {
    let port = free_port();
    let script = program("::1", &port, false);
    let sidecar = Sidecar::everywhere(Folder::new(), &["--port", &port], Some(&script));
    sidecar.registry.wait_for_word("PUT passing").await;
    let first = &sidecar.registry.received()[0];
    assert_eq!(first.body["address"], format!("[::1]:{port}"));
    sidecar.prints("listens on this address only").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_speak_what_is_announced_is_told_of() {
    let port = free_port();
    let script = format!("exec python3 -m http.server {port} --bind 127.0.0.1");
    for scheme in ["h2c", "https"] {
        let sidecar = Sidecar::start(Folder::new(), &["--port", &port, "--scheme", scheme], Some(&script));
        sidecar.prints(&format!("speaks HTTP/1.1 without TLS, but is announced as {scheme}")).await;
    }
}
