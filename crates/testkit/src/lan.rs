//! Hosts on one network: each has an address, a loopback, processes and a cable of its own.
//!
//! A host is a network, a process and a mount namespace (namespaces(7)), held by its process 1; a bridge connects the
//! hosts with the test, whose thread has a network of its own, too. When process 1 is killed, the kernel kills every
//! other process of that host, and what belonged to it is gone with the last one. So nothing is left behind, whatever
//! becomes of the test: no name is given to any namespace, and process 1 is killed when the thread that started it
//! ends.

use std::{ffi::OsStr, fs, net::Ipv4Addr, path::PathBuf, process::Command, time::Duration};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    process::Process,
    wait::{wait_for, wait_until},
};

/// How long a host may take to come up or to go.
const PATIENCE: Duration = Duration::from_secs(10);
/// The number of the test in the network 10.77.0.0/24.
const TEST: u8 = 254;

/// The network, and a folder for what its hosts keep.
#[derive(Debug)]
pub struct Lan {
    folder: TempDir,
}

/// One host. Dropping it is pulling its power cable.
#[derive(Debug)]
pub struct Host {
    number: u8,
    folder: PathBuf,
    /// How often it was started. Each time it gets a new cable, because the kernel clears the old one away in its own
    /// time.
    boots: u32,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// Started process 1, and ends with it.
    holder: Process,
    /// Process 1 of the host, by the id that it has here.
    init: i32,
}

// === impl Lan ===

impl Lan {
    /// Takes the calling thread out of this machine's network and into a new one, for good: sockets that the thread
    /// opens and processes that it starts from now on are on the LAN.
    ///
    /// # Errors
    ///
    /// What is not allowed here; root may do it, in most containers not even root may.
    ///
    /// # Panics
    ///
    /// When there is no temporary folder.
    pub fn enter() -> Result<Self, String> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("no network namespace can be made here, which needs root: {error}"))?;
        ip("link set lo up")?;
        ip("link add name lan type bridge")?;
        ip(&format!("addr add {}/24 dev lan", address(TEST)))?;
        ip("link set lan up")?;
        Ok(Self { folder: tempfile::tempdir().expect("a temporary folder") })
    }

    /// Starts host `number`, 1 to 253, with the address 10.77.0.`number`.
    ///
    /// # Errors
    ///
    /// What is not allowed here.
    ///
    /// # Panics
    ///
    /// When its folder cannot be made.
    pub async fn host(&self, number: u8) -> Result<Host, String> {
        let folder = self.folder.path().join(format!("host-{number}"));
        fs::create_dir(&folder).expect("a writable temporary folder");
        let mut host = Host { number, folder, boots: 0, running: None };
        host.boot().await?;
        Ok(host)
    }
}

// === impl Host ===

impl Host {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        address(self.number)
    }

    /// Where it keeps what survives its end; also the working directory of its programs.
    #[must_use]
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// A command that runs `program` on it, with nothing in its environment but `PATH`.
    ///
    /// # Panics
    ///
    /// When the host is off.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.nsenter();
        command.args(["--pid", "--mount"]).arg(format!("--wd={}", self.folder.display())).arg("--").arg(program);
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        command
    }

    /// Kills every process on it at once, and the host with them.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn kill(&mut self) {
        let Some(Running { mut holder, init }) = self.running.take() else { return };
        // It waits for process 1, and ends with it; until then, the id is that of process 1.
        let _ended_already = kill(Pid::from_raw(init), Signal::SIGKILL);
        wait_until("the end of a host", PATIENCE, || {
            let ended = !holder.is_running();
            async move { ended }
        })
        .await;
    }

    /// Starts it (again), without any program.
    ///
    /// # Errors
    ///
    /// What is not allowed here.
    pub async fn boot(&mut self) -> Result<(), String> {
        self.kill().await;
        let mut holder = Command::new("setpriv");
        holder.args(["--pdeathsig", "KILL", "unshare", "--net", "--pid", "--mount", "--fork", "--kill-child"]);
        holder.args(["--mount-proc", "sleep", "infinity"]);
        let holder = Process::start(&mut holder, &self.folder.join("host.log"));
        let mut holder = holder.map_err(|error| format!("setpriv cannot be started: {error}"))?;
        let init = wait_for("a host", PATIENCE, || {
            let init = children(holder.id()).into_iter().find(|child| is_init(*child));
            let answer = if holder.is_running() { init.map(Ok) } else { Some(Err(holder.output())) };
            async move { answer }
        });
        let init = init.await?;
        self.boots += 1;
        self.running = Some(Running { holder, init });
        self.plug_in(init)
    }

    /// Cuts its cable: what is sent to it or by it is lost, without a word to either side.
    ///
    /// # Panics
    ///
    /// When the host is off.
    pub fn cut(&self) {
        ip(&format!("link set {} down", self.cable())).expect("a cable that is there can be cut");
    }

    /// Ends what [`cut`](Self::cut) began.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn mend(&self) {
        ip(&format!("link set {} up", self.cable())).expect("a cable that is there can be mended");
    }

    fn plug_in(&self, init: i32) -> Result<(), String> {
        let cable = self.cable();
        let number = self.number;
        // The card survives the host's end, so that no host looks for it under an old hardware address.
        ip(&format!("link add {cable} type veth peer name eth0 address 02:00:00:00:00:{number:02x} netns {init}"))?;
        ip(&format!("link set {cable} master lan up"))?;
        for words in ["link set lo up", &format!("addr add {}/24 dev eth0", self.address()), "link set eth0 up"] {
            run(self.nsenter().args(["--", "ip"]).args(words.split(' ')))?;
        }
        Ok(())
    }

    /// Our end of its cable.
    fn cable(&self) -> String {
        format!("host{}-{}", self.number, self.boots)
    }

    fn nsenter(&self) -> Command {
        let init = self.running.as_ref().expect("a host that is on").init;
        let mut command = Command::new("nsenter");
        command.args(["--target", &init.to_string(), "--net"]);
        command
    }
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

fn ip(words: &str) -> Result<(), String> {
    run(Command::new("ip").args(words.split(' ')))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// The processes that process `id` has started (proc(5)).
fn children(id: u32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Whether this is process 1 of a host, with its namespaces made: before that, it is still `unshare`.
fn is_init(id: i32) -> bool {
    fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name == "sleep\n")
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

    use super::*;
    use crate::{python::python, wait::SOON};

    const SERVE: &str = "import os, socket
s = socket.create_server((os.environ['HOST'], 80))
while True: s.accept()[0].send(b'hello')";

    async fn ask(address: Ipv4Addr) -> Option<String> {
        let asked = timeout(Duration::from_millis(500), async {
            let mut stream = TcpStream::connect(SocketAddr::from((address, 80))).await.ok()?;
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).await.ok()?;
            String::from_utf8(hello.to_vec()).ok()
        });
        asked.await.ok().flatten()
    }

    #[tokio::test]
    async fn a_host_is_reached_until_its_cable_is_cut_or_it_is_killed() {
        let lan = match Lan::enter() {
            Ok(lan) => lan,
            Err(why) => return println!("SKIPPED: {why}"),
        };
        let mut host = lan.host(1).await.unwrap();
        let serve = |host: &Host| {
            let mut command = host.command(python("python").get_program());
            command.args(["-c", SERVE]).env("HOST", host.address().to_string());
            Process::start(&mut command, &host.folder().join("serve.log")).unwrap()
        };
        let mut serving = serve(&host);
        let is_there = async || ask(host.address()).await.as_deref() == Some("hello");
        wait_until("an answer", SOON, is_there).await;
        host.cut();
        assert!(!is_there().await, "the cable is cut");
        host.mend();
        wait_until("an answer over the mended cable", SOON, is_there).await;
        host.kill().await;
        assert!(serving.wait(SOON).is_some(), "its programs end with it");
        assert_eq!(ask(host.address()).await, None);
        host.boot().await.unwrap();
        let _serving = serve(&host);
        wait_until("an answer of the host that is back", SOON, async || ask(host.address()).await.is_some()).await;
    }
}
