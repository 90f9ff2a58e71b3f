//! A child that ends when `muster` does, even when `muster` is killed with SIGKILL.
//!
//! Linux sends a process a signal of its choice when its parent ends (`PR_SET_PDEATHSIG`, prctl(2)), and keeps that
//! choice over execve(2). It has to be made in the child. Between fork(2) and execve(2) that takes unsafe code, so
//! `muster` starts itself instead, as the hidden command `tethered`, which makes the choice and then becomes the
//! program: same process id, same pipes.
//!
//! The signal is SIGTERM: services deregister and etcd closes its files, instead of being cut off. A process that does
//! not heed it is found by the next `muster up`. On other systems than Linux that is all there is.

use std::{convert::Infallible, ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::Context as _;

use crate::up::topology::Process;

/// Options of the hidden command that this file is about.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ParentDeathOptions {
    /// The process with which to end.
    #[arg(long)]
    parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// The command that runs `process` tethered to this process, in a process group of its own: a Ctrl-C at the terminal
/// reaches `muster` alone, which then ends everything in order.
pub(crate) fn command(process: &Process) -> Command {
    let mut command = Command::new(own_program());
    command
        .args(["tethered", "--parent", &std::process::id().to_string(), "--"])
        .arg(&process.program)
        .args(&process.arguments)
        .env_clear()
        .envs(&process.environment)
        .current_dir(&process.folder)
        .process_group(0);
    command
}

/// Becomes the program in `options`. Returns only the reason why that failed.
pub(crate) fn become_program(options: &ParentDeathOptions) -> anyhow::Error {
    let Err(error) = try_become(options);
    error
}

fn try_become(options: &ParentDeathOptions) -> anyhow::Result<Infallible> {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::{prctl::set_pdeathsig, signal::Signal};

        set_pdeathsig(Signal::SIGTERM).context("cannot tether to the parent process")?;
        // It may have ended before the line above; then no signal comes.
        if nix::unistd::getppid().as_raw() != options.parent {
            anyhow::bail!("the parent process {} has ended already", options.parent);
        }
    }
    let (program, arguments) = options.program.split_first().context("a program is missing")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", Path::new(program).display()))
}

/// This very program, even if its file has been replaced by a new build since it was started.
fn own_program() -> std::path::PathBuf {
    let link = Path::new("/proc/self/exe");
    if link.exists() {
        return link.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| "muster".into())
}
