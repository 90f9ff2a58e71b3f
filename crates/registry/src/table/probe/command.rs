//! A program that checks: it ends with 0, or what it checks does not pass.
//!
//! It is started as it is given, without a shell, in `/`, with nothing to read and an environment of its own: PATH and
//! `MUSTER_SERVICE`, `MUSTER_INSTANCE`, `MUSTER_ADDRESS`, `MUSTER_HOST` and `MUSTER_PORT`. Nothing of this process's own environment, where
//! passwords are, reaches it. The last line that it prints is the reason.
//!
//! *Its end.* It is the leader of a process group. When it has ended, or its time is over, or this check is given up, every process of
//! the group is killed: what it has started in the background as well. One that makes a session of its own (setsid) is no
//! part of that, and is left alone. A group is killed before its leader is reaped: until then no other
//! process can have its number.
//!
//! *What it prints* is read up to [`OUTPUT_MAX_BYTES`]; a program that prints more finds the pipe closed.

use std::{
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid, waitpid},
    },
    unistd::Pid,
};
use service_kit::duration;
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    sync::OwnedSemaphorePermit,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use crate::table::document::Entry;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const OUTPUT_MAX_BYTES: usize = 64 * 1024;
/// How long what was printed may take to arrive once the program has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The processes of one check. Dropping it kills them.
#[derive(Debug)]
struct Group(Arc<Mutex<Leader>>);

/// The process that the group is called by.
#[derive(Debug)]
struct Leader {
    pid: Pid,
    /// Its number may be another's from now on.
    is_reaped: bool,
}

/// Runs the program `words` about `entry`; its place among all is free when it has ended.
pub(super) async fn ask(
    words: &[String],
    entry: &Entry,
    limit: Duration,
    place: Option<OwnedSemaphorePermit>,
) -> Result<(), String> {
    let program = words.first().map_or("", String::as_str);
    let failed = |error: io::Error| format!("{program} cannot be run: {error}");
    let (reader, command) = prepare(words, entry).map_err(failed)?;
    let (group, ended) =
        spawn_blocking(move || start(command, place)).await.map_err(io::Error::other).flatten().map_err(failed)?;
    // What a session of its own has kept open is not read for longer than this check goes on.
    let reading = AbortOnDropHandle::new(tokio::spawn(read(reader)));
    let ended = timeout(limit, ended).await;
    let Ok(ended) = ended else {
        group.kill();
        return Err(format!("{program} had not ended after {} and was killed", duration::format(limit)));
    };
    let status = ended.map_err(io::Error::other).flatten().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let output = timeout(LAST_WORDS, reading).await.ok().and_then(Result::ok).unwrap_or_default();
    let said = last_line(&output).filter(|_| status.signal().is_none());
    Err(format!("{program}: {}", said.unwrap_or_else(|| status.to_string())))
}

fn prepare(words: &[String], entry: &Entry) -> io::Result<(pipe::Receiver, Command)> {
    let (reader, writer) = io::pipe()?;
    let address = &entry.instance.address;
    let id = entry.key.instance.as_ref().map(ToString::to_string).unwrap_or_default();
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .env("MUSTER_SERVICE", entry.key.service.as_str())
        .env("MUSTER_INSTANCE", id)
        .env("MUSTER_ADDRESS", address.to_string())
        .env("MUSTER_HOST", address.host.to_string())
        .env("MUSTER_PORT", address.port.to_string())
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, command))
}

type Ended = JoinHandle<io::Result<ExitStatus>>;

/// Starts it, and a thread that waits for its end.
fn start(mut command: Command, place: Option<OwnedSemaphorePermit>) -> io::Result<(Group, Ended)> {
    let child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive and fit i32"));
    let leader = Arc::new(Mutex::new(Leader { pid, is_reaped: false }));
    let group = Group(Arc::clone(&leader));
    let ended = spawn_blocking(move || {
        let status = reap(child, &leader);
        drop(place);
        status
    });
    Ok((group, ended))
}

/// Waits for the end of the program, ends what it has left behind, then frees its number.
///
/// As process 1 of a container the registry inherits what the program has left: those of its group are reaped as well.
/// While there is one, no other group can have their number.
fn reap(mut child: Child, leader: &Mutex<Leader>) -> io::Result<ExitStatus> {
    let pid = leader.lock().unwrap_or_else(PoisonError::into_inner).pid;
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    let mut leader = leader.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = killpg(pid, Signal::SIGKILL);
    let status = child.wait();
    leader.is_reaped = true;
    drop(leader);
    let group = Pid::from_raw(-pid.as_raw());
    while matches!(waitpid(group, None), Ok(_) | Err(Errno::EINTR)) {}
    status
}

/// What was printed, up to the bound.
async fn read(mut reader: pipe::Receiver) -> Vec<u8> {
    let mut output = Vec::new();
    let mut limited = (&mut reader).take(OUTPUT_MAX_BYTES as u64);
    let _ = limited.read_to_end(&mut output).await;
    output
}

fn last_line(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

// === impl Group ===

impl Group {
    fn kill(&self) {
        let leader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !leader.is_reaped {
            let _ = killpg(leader.pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use testkit::wait::{SOON, wait_until};
    use tokio::time::Instant;

    use super::*;
    use crate::table::document::Table;

    fn entry() -> Arc<Entry> {
        let text = r#"{"instances":[{"service":"db","id":"a","address":"10.0.0.5:3306"}]}"#;
        let table = Table::parse(Path::new("t.json"), text).unwrap();
        Arc::clone(table.entries.values().next().unwrap())
    }

    async fn run(script: &str, limit: Duration) -> Result<(), String> {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        ask(&words, &entry(), limit, None).await
    }

    /// Processes whose command line has this word.
    fn processes(word: &str) -> Vec<String> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(word)).collect()
    }

    async fn wait_until_gone(word: &str) {
        wait_until("nothing is left of it", SOON, async || processes(word).is_empty()).await;
    }

    #[tokio::test]
    async fn a_program_passes_with_0_and_says_why_it_does_not_with_its_last_line() {
        assert_eq!(run("exit 0", SOON).await, Ok(()));
        let why = run("echo one; echo 'the disk is full' >&2; echo; exit 3", SOON).await;
        assert_eq!(why.unwrap_err(), "/bin/sh: the disk is full");
        assert_eq!(run("exit 3", SOON).await.unwrap_err(), "/bin/sh: exit status: 3");
        let missing = ask(&["/nowhere/x".to_owned()], &entry(), SOON, None).await.unwrap_err();
        assert!(missing.starts_with("/nowhere/x cannot be run: No such file"), "{missing}");
    }

    #[tokio::test]
    async fn it_knows_whom_it_checks_and_nothing_else() {
        let why = run("env | sort | tr '\\n' ' '; exit 1", SOON).await.unwrap_err();
        let names: Vec<&str> = why.split_whitespace().filter_map(|word| Some(word.split_once('=')?.0)).collect();
        let known =
            ["MUSTER_ADDRESS", "MUSTER_HOST", "MUSTER_INSTANCE", "MUSTER_PORT", "MUSTER_SERVICE", "PATH", "PWD"];
        assert!(names.iter().all(|name| known.contains(name) || ["OLDPWD", "SHLVL", "_"].contains(name)), "{why}");
        for word in ["MUSTER_ADDRESS=10.0.0.5:3306", "MUSTER_SERVICE=db", "MUSTER_INSTANCE=a", "PWD=/"] {
            assert!(why.contains(word), "{word} in {why}");
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_at_its_deadline_with_all_that_it_has_started() {
        let began = Instant::now();
        let why = run("trap '' TERM; sleep 71.0061 & sleep 71.0062", Duration::from_millis(300)).await.unwrap_err();
        assert!(why.contains("had not ended after 300ms and was killed"), "{why}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        wait_until_gone("71.006").await;
    }

    #[tokio::test]
    async fn what_a_program_leaves_in_the_background_ends_with_it() {
        assert_eq!(run("sleep 71.0071 >/dev/null 2>&1 & sleep 71.0072 & exit 0", SOON).await, Ok(()));
        wait_until_gone("71.007").await;
    }

    /// Processes whose parent is this one and that have ended, but for their entry.
    fn zombies() -> usize {
        let mine = format!(") Z {} ", std::process::id());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let states = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
        states.filter(|state| state.contains(&mine)).count()
    }

    #[tokio::test]
    async fn what_a_program_leaves_to_process_1_is_reaped_there() {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        for _ in 0..3 {
            assert_eq!(run("sleep 71.0101 & (sleep 71.0102 & sleep 71.0103) & exit 0", SOON).await, Ok(()));
        }
        wait_until_gone("71.010").await;
        wait_until("nothing is left to be reaped", SOON, async || zombies() == 0).await;
        nix::sys::prctl::set_child_subreaper(false).unwrap();
    }

    #[tokio::test]
    async fn what_a_session_of_its_own_keeps_open_is_no_longer_read_when_the_check_has_ended() {
        let metrics = tokio::runtime::Handle::current().metrics();
        let session = |process: &str| format!("$(cut -d' ' -f6 /proc/{process}/stat)");
        let (its, ours) = (session("$!"), session("$$"));
        let script = format!("setsid sleep 10.0111 & while [ {its} = {ours} ]; do :; done");
        assert_eq!(run(&script, SOON).await, Ok(()));
        wait_until("the reading has ended", Duration::from_secs(2), async || metrics.num_alive_tasks() == 0).await;
    }

    #[tokio::test]
    async fn a_check_that_is_given_up_leaves_no_process() {
        let asking = tokio::spawn(run("sleep 71.0081", SOON));
        wait_until("it runs", SOON, async || !processes("71.0081").is_empty()).await;
        asking.abort();
        wait_until_gone("71.0081").await;
    }

    #[tokio::test]
    async fn one_that_prints_without_end_is_read_to_a_bound() {
        let why = run("exec yes", SOON).await.unwrap_err();
        assert!(why.contains("signal: 13"), "its pipe is closed: {why}");
    }
}
