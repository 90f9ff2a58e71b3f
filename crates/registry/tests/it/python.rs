//! Programs of others, in Python, run against a registry.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use testkit::process::Process;

/// What `crates/muster/prerequisites.sh test` installs, from tests/python/requirements.txt.
pub(crate) fn python(program: &str) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    let program = target.join("python/bin").join(program);
    assert!(program.exists(), "{} is missing; crates/muster/prerequisites.sh test installs it", program.display());
    Command::new(program)
}

/// Runs it to its end, which is a success; what it printed.
pub(crate) async fn succeed(mut command: Command, limit: Duration) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(command.current_dir(dir.path()), &dir.path().join("output")).unwrap();
    // The registry that it talks to lives in this very thread's runtime.
    let ended = tokio::task::spawn_blocking(move || (process.wait(limit), process.output()));
    let (status, output) = ended.await.unwrap();
    let status = status.unwrap_or_else(|| panic!("it had not ended after {limit:?}:\n{output}"));
    assert!(status.success(), "{status}:\n{output}");
    output
}
