//! How a sidecar ends: with its program's exit code, leaving nothing behind.

use std::fs;

use nix::sys::signal::{Signal, kill};
use testkit::{
    process::Process,
    wait::{SOON, wait_until},
};

use crate::{
    fake_registry::unused_url,
    sidecar::{Folder, Sidecar, command, free_port, proc_status, wait_until_gone},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_is_deregistered_and_its_exit_code_passed_on() {
    for (ending, code) in [("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        let script = format!("until test -e stop; do sleep 0.05; done; {ending}");
        // An hour for the gateways: an instance that is gone needs none.
        let mut sidecar = Sidecar::passing(&["--let-go", "1m"], &script);
        sidecar.registry.wait_for_word("PUT passing").await;
        sidecar.create("stop");
        assert_eq!(sidecar.exit_code().await, code, "{ending}");
        sidecar.registry.tells(&["PUT passing", "PUT draining", "DELETE"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_before_it_is_well_is_never_announced() {
    let options = ["--check-cmd", "false"];
    let mut sidecar = Sidecar::start(Folder::new(), &options, Some("exit 3"));
    assert_eq!(sidecar.exit_code().await, 3);
    assert_eq!(sidecar.registry.received().len(), 0);
}

/// Runs the sidecar with these arguments to its end; exit code and output.
fn run(args: &[&str]) -> (i32, String) {
    let folder = Folder::new();
    fs::write(folder.path("text"), "not a program").unwrap();
    let mut command = command(folder.path("").as_path(), "http://127.0.0.1:1");
    let mut process = Process::start(command.args(args), &folder.path("output")).unwrap();
    let status = process.wait(SOON).unwrap_or_else(|| panic!("it does not end: {}", process.output()));
    (status.code().unwrap(), process.output())
}

#[test]
fn what_cannot_be_run_ends_as_in_a_shell() {
    for (program, expected, hint) in [
        ("no-such-program-here", 127, "cannot run no-such-program-here: no such program"),
        ("./missing", 127, "cannot run ./missing: no such program"),
        ("./text", 126, "cannot run ./text: Permission denied"),
        ("/", 126, "cannot run /: Permission denied"),
    ] {
        let args = ["--service", "web", "--port", &free_port(), "--check-cmd", "false", "--", program];
        let (code, output) = run(&args);
        assert_eq!(code, expected, "{program}: {output}");
        assert!(output.contains(hint), "{program}: {output}");
    }
}

#[test]
fn every_mistake_in_the_configuration_is_named_at_once() {
    let (code, output) = run(&["--ttl", "5", "--advertise", "0.0.0.0:80", "--check-http", "https://a", "--rise", "0"]);
    assert_eq!(code, 64, "{output}");
    for hint in ["--ttl (TTL)", "--advertise (ADVERTISE)", "--check-http (CHECK_HTTP)", "--rise"] {
        assert!(output.contains(hint), "{hint} is missing in\n{output}");
    }
    let (code, output) = run(&["--check-http", "http://a", "--check-cmd", "true"]);
    assert_eq!(code, 64, "{output}");
    for hint in ["--service (SERVICE) is missing", "--port (PORT) is missing", "choose one check"] {
        assert!(output.contains(hint), "{hint} is missing in\n{output}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_ended_when_the_sidecar_is_killed() {
    let script = "trap 'echo told > told; exit' TERM; echo $$ > pid; while :; do sleep 0.05; done";
    let mut sidecar = Sidecar::passing(&[], script);
    let pid = sidecar.pid("pid").await;
    assert_eq!(nix::unistd::getpgid(Some(pid)), Ok(pid), "it has a process group of its own");
    sidecar.process.kill();
    sidecar.written("told").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_program_left_behind_ends_with_it() {
    let script =
        "sleep 1000 & echo $! > left; sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & echo $! > stubborn
        until test -e stop; do sleep 0.05; done; exit 5";
    let mut sidecar = Sidecar::passing(&["--grace", "200ms"], script);
    let left = sidecar.pid("left").await;
    let stubborn = sidecar.pid("stubborn").await;
    sidecar.create("stop");
    assert_eq!(sidecar.exit_code().await, 5);
    wait_until_gone(left).await;
    wait_until_gone(stubborn).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_the_program_become_ours_and_leave_no_zombies() {
    let script = "sh -c 'sleep 1000 & echo $! > orphan'; while :; do sleep 0.05; done";
    let mut sidecar = Sidecar::passing(&[], script);
    let orphan = sidecar.pid("orphan").await;
    let parent = i32::try_from(sidecar.process.id()).unwrap();
    wait_until("the orphan to be adopted", SOON, || async { proc_status(orphan, "PPid") == Some(parent) }).await;
    kill(orphan, Signal::SIGKILL).unwrap();
    wait_until_gone(orphan).await;
    assert!(sidecar.process.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_registries_do_not_hold_up_the_end() {
    let folder = Folder::new();
    let mut command = command(folder.path("").as_path(), &format!("{},{}", unused_url(), unused_url()));
    command.args(["--service", "web", "--port", &free_port(), "--check-cmd", "true", "--", "sh", "-c"]);
    command.arg("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let mut process = Process::start(&mut command, &folder.path("output")).unwrap();
    for text in ["ready", "not registered yet"] {
        wait_until(text, SOON, || async { process.output().contains(text) }).await;
    }
    process.signal(Signal::SIGTERM);
    let status = tokio::task::block_in_place(|| process.wait(SOON)).expect("it ends");
    assert_eq!(status.code(), Some(7), "{}", process.output());
}
