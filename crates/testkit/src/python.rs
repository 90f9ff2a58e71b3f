//! Programs of others, in Python.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::process::Process;

/// What `crates/muster/prerequisites.sh test` installs, from crates/registry/tests/python/requirements.txt.
///
/// # Panics
///
/// It is not there.
#[must_use]
pub fn python(program: &str) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    let program = target.join("python/bin").join(program);
    assert!(program.exists(), "{} is missing; crates/muster/prerequisites.sh test installs it", program.display());
    Command::new(program)
}

/// Runs it to its end, which is a success; what it printed. It works in a folder of its own.
///
/// # Panics
///
/// It fails, or has not ended after `limit`.
pub async fn succeed(mut command: Command, limit: Duration) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let process = Process::start(command.current_dir(dir.path()), &dir.path().join("output"));
    let mut process = process.expect("the program can be started");
    // What it talks to may live in this very thread's runtime.
    let ended = tokio::task::spawn_blocking(move || (process.wait(limit), process.output()));
    let (status, output) = ended.await.expect("waiting does not panic");
    let status = status.unwrap_or_else(|| panic!("it had not ended after {limit:?}:\n{output}"));
    assert!(status.success(), "{status}:\n{output}");
    output
}
