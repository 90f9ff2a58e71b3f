//! Signals reach the program, and those that end it only after the gateways know.

use std::{fs, process::Command, time::Duration};

use nix::sys::signal::Signal;
use testkit::{
    process::Process,
    wait::{SOON, wait_until},
};

use crate::{
    fake_registry::FakeRegistry,
    sidecar::{Folder, Sidecar, free_port},
};

/// Says which signals arrive, and ends by those that ask for it with exit codes of its own.
const TALKATIVE: &str = "
    trap 'echo got HUP' HUP; trap 'echo got USR1' USR1; trap 'echo got USR2' USR2
    trap 'echo TERM > ended; exit 7' TERM; trap 'echo INT > ended; exit 8' INT; trap 'echo QUIT > ended; exit 9' QUIT
    echo ready; while :; do sleep 0.05; done";

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_do_not_end_anything_are_handed_on() {
    let mut sidecar = Sidecar::passing(&[], TALKATIVE);
    sidecar.prints("ready").await;
    for (signal, text) in [(Signal::SIGHUP, "got HUP"), (Signal::SIGUSR1, "got USR1"), (Signal::SIGUSR2, "got USR2")] {
        sidecar.process.signal(signal);
        sidecar.prints(text).await;
    }
    sidecar.registry.wait_for_word("PUT passing").await;
    assert!(sidecar.process.is_running());
    assert_eq!(sidecar.registry.story(), ["PUT passing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_ends_reaches_the_program_after_the_gateways_have_let_go() {
    for (signal, name, code) in [(Signal::SIGTERM, "TERM", 7), (Signal::SIGINT, "INT", 8), (Signal::SIGQUIT, "QUIT", 9)]
    {
        let mut sidecar = Sidecar::passing(&["--let-go", "400ms"], TALKATIVE);
        sidecar.prints("ready").await;
        sidecar.registry.wait_for_word("PUT passing").await;
        sidecar.process.signal(signal);
        assert_eq!(sidecar.exit_code().await, code);
        assert_eq!(sidecar.text("ended").unwrap().trim(), name);
        sidecar.registry.tells(&["PUT passing", "PUT draining", "DELETE"]).await;
        let deleted = sidecar.registry.received().last().unwrap().at;
        let ended = sidecar.written("ended").await;
        // File times are those of the last tick of the kernel's clock.
        assert!(ended > deleted + Duration::from_millis(350), "{name}: {:?}", ended.duration_since(deleted));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_the_gateways_and_a_third_not_for_the_program() {
    let stubborn = "trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done";
    let mut sidecar = Sidecar::passing(&["--let-go", "1m", "--grace", "1h"], stubborn);
    sidecar.prints("ready").await;
    sidecar.registry.wait_for_word("PUT passing").await;
    sidecar.process.signal(Signal::SIGTERM);
    sidecar.registry.wait_for_word("DELETE").await;
    assert!(!sidecar.process.output().contains("told"));
    sidecar.process.signal(Signal::SIGTERM);
    sidecar.prints("told").await;
    sidecar.process.signal(Signal::SIGTERM);
    assert_eq!(sidecar.exit_code().await, 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ignores_the_signal_is_killed_after_the_grace() {
    let mut sidecar = Sidecar::passing(&["--grace", "300ms"], "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    sidecar.prints("ready").await;
    sidecar.process.signal(Signal::SIGTERM);
    assert_eq!(sidecar.exit_code().await, 137);
    sidecar.prints("the program does not stop; killing it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_by_the_signal_gives_the_exit_code_of_a_shell() {
    let mut sidecar = Sidecar::passing(&[], "echo ready; exec sleep 1000");
    sidecar.prints("ready").await;
    sidecar.process.signal(Signal::SIGTERM);
    assert_eq!(sidecar.exit_code().await, 143);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_program_the_hangup_of_a_terminal_deregisters() {
    let options = ["--check-cmd", "true"];
    let mut sidecar = Sidecar::start(Folder::new(), &options, None);
    sidecar.registry.wait_for_word("PUT passing").await;
    sidecar.process.signal(Signal::SIGUSR1);
    sidecar.process.signal(Signal::SIGHUP);
    assert_eq!(sidecar.exit_code().await, 0);
    sidecar.registry.tells(&["PUT passing", "PUT draining", "DELETE"]).await;
}

/// What a person at a terminal does, typed by a shell as soon as the test says so.
///
/// `exec`, because a shell between the terminal and the sidecar gets the Ctrl-C too, and some (dash) then end by it.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_a_terminal_reaches_the_program_after_the_deregistration() {
    let folder = Folder::new();
    let registry = FakeRegistry::start();
    fs::write(folder.path("program"), TALKATIVE).unwrap();
    let typed = "
        n=0; until test -e press || test $n = 400; do sleep 0.05; n=$((n + 1)); done; printf '\\003'
        n=0; until test -e ended || test $n = 400; do sleep 0.05; n=$((n + 1)); done";
    let sidecar = format!(
        "{} --registry {} --service web --host 127.0.0.1 --port {} --check-cmd true -- sh program",
        env!("CARGO_BIN_EXE_heartbeat"),
        registry.url(),
        free_port()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &format!("({typed}) | script -qec 'exec {sidecar}' /dev/null")]).current_dir(folder.path(""));
    let mut process = Process::start(&mut command, &folder.path("output")).unwrap();
    registry.wait_for_word("PUT passing").await;
    wait_until("the program to be ready", SOON, || async { process.output().contains("ready") }).await;
    folder.create("press");
    let status = tokio::task::block_in_place(|| process.wait(SOON)).expect("it ends");
    assert_eq!(status.code(), Some(8), "{}", process.output());
    assert_eq!(fs::read_to_string(folder.path("ended")).unwrap().trim(), "INT");
    registry.tells(&["PUT passing", "PUT draining", "DELETE"]).await;
}
