//! Real etcd: one member or three, on loopback, in a temporary folder.
//!
//! Members are killed, frozen, thawed, restarted and wiped like in life. Each keeps its ports and its data over a
//! restart, unless it is wiped.

mod config;
mod etcdctl;
mod quota;

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    peer_network::PeerNetwork,
    ports::free_ports,
    process::Process,
    wait::{SOON, poll, wait_for},
};

pub use config::{EtcdConfig, EtcdTls};

/// A running cluster. Dropping it ends every member and removes its data.
#[derive(Debug)]
pub struct EtcdCluster {
    config: EtcdConfig,
    members: Vec<Member>,
    /// Counts wipes: a new cluster gets a new token, so that a member of the old one cannot join it.
    generation: u32,
    network: Option<PeerNetwork>,
    // After the members, so that it goes last.
    dir: TempDir,
}

#[derive(Debug)]
struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    metrics_port: u16,
    process: Option<Process>,
    frozen: bool,
}

// === impl EtcdCluster ===

impl EtcdCluster {
    /// Starts a cluster of `members` members and waits until it has a quorum.
    ///
    /// # Panics
    ///
    /// When there is no [`binary`] (the message says how to get it), or it does not start.
    pub async fn start(members: usize) -> Self {
        Self::with(EtcdConfig { members, ..EtcdConfig::default() }).await
    }

    /// Starts a cluster as configured, and waits until it has a quorum.
    ///
    /// # Panics
    ///
    /// As [`EtcdCluster::start`].
    pub async fn with(config: EtcdConfig) -> Self {
        let count = config.members.max(1);
        let ports = free_ports(3 * count);
        let members = ports.chunks(3).enumerate().map(|(index, ports)| Member {
            name: format!("m{index}"),
            client_port: ports[0],
            peer_port: ports[1],
            metrics_port: ports[2],
            process: None,
            frozen: false,
        });
        let dir = tempfile::Builder::new().prefix("etcd-").tempdir().expect("a writable temporary folder");
        let members: Vec<Member> = members.collect();
        let peers: Vec<SocketAddr> = members.iter().map(|member| ([127, 0, 0, 1], member.peer_port).into()).collect();
        let network = if config.can_be_cut { Some(PeerNetwork::start(&peers).await) } else { None };
        let mut cluster = Self { config, members, generation: 0, network, dir };
        for index in 0..count {
            cluster.launch(index);
        }
        cluster.healthy().await;
        cluster
    }

    /// The URLs for clients, one per member, in the order of their indices.
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|index| self.endpoint(index)).collect()
    }

    /// The URL of member `index` for clients.
    pub fn endpoint(&self, index: usize) -> String {
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.members[index].client_port)
    }

    /// Kills member `index` at once (SIGKILL).
    pub fn kill(&mut self, index: usize) {
        self.members[index].process = None;
    }

    /// Asks member `index` to end (SIGTERM), as an operator would, and waits for that.
    ///
    /// # Panics
    ///
    /// When it does not end soon.
    pub fn stop(&mut self, index: usize) {
        if let Some(mut process) = self.members[index].process.take() {
            process.signal(Signal::SIGTERM);
            assert!(process.wait(SOON).is_some(), "etcd did not end on SIGTERM:\n{}", tail(&process.output()));
        }
    }

    /// Freezes member `index` (SIGSTOP): its kernel still accepts connections, but they get no answer.
    pub fn freeze(&mut self, index: usize) {
        self.signal(index, Signal::SIGSTOP);
        self.members[index].frozen = true;
    }

    /// Lets a frozen member go on (SIGCONT).
    pub fn thaw(&mut self, index: usize) {
        self.signal(index, Signal::SIGCONT);
        self.members[index].frozen = false;
    }

    /// Cuts member `index` off from the other members; clients still reach it. Needs [`EtcdConfig::can_be_cut`].
    ///
    /// # Panics
    ///
    /// When the cluster was started without that.
    pub fn cut_off(&self, index: usize) {
        let network = self.network.as_ref().expect("a cluster with can_be_cut");
        let list = self.etcdctl(&["member", "list"]);
        let name = format!(", {}, ", self.members[index].name);
        let line = list.lines().find(|line| line.contains(&name)).expect("every member is listed");
        network.cut_off(index, line.split(',').next().expect("a line has a first part"));
    }

    /// Ends what [`cut_off`](Self::cut_off) began.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn heal(&self) {
        self.network.as_ref().expect("a cluster with can_be_cut").heal();
    }

    /// Starts member `index` again, with its data and on its ports, and waits until it serves.
    pub async fn restart(&mut self, index: usize) {
        self.members[index].process = None;
        self.launch(index);
        self.member_healthy(index).await;
    }

    /// Starts member `index` again without waiting for anything: alone it may have no quorum.
    pub fn launch(&mut self, index: usize) {
        let member = &self.members[index];
        let output = self.dir.path().join(format!("{}.log", member.name));
        match Process::start(&mut self.command(member), &output) {
            Ok(process) => {
                self.members[index].process = Some(process);
                self.members[index].frozen = false;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => panic!(
                "this test needs etcd, and there is no {}; install it (Debian, Ubuntu: apt install \
                 etcd-server etcd-client; else https://github.com/etcd-io/etcd/releases, 3.4 or newer)",
                binary().display()
            ),
            Err(error) => panic!("cannot start etcd: {error}"),
        }
    }

    /// Kills all members, deletes their data and starts them again, empty, on the same ports.
    pub async fn wipe(&mut self) {
        for member in &mut self.members {
            member.process = None;
        }
        self.generation += 1;
        for index in 0..self.members.len() {
            let data = self.data_dir(&self.members[index]);
            fs::remove_dir_all(&data).expect("the data of an ended member can be removed");
            self.launch(index);
        }
        self.healthy().await;
    }

    /// The index of the leader, once the members that run agree on one.
    pub async fn leader(&self) -> usize {
        wait_for("an etcd leader", SOON, || async { self.leaders().await.first().copied() }).await
    }

    /// The members that believe that they lead: none during an election, two for a while after the leader was cut off.
    pub async fn leaders(&self) -> Vec<usize> {
        let mut leaders = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let metrics = get(member.metrics_port, "/metrics").await.unwrap_or_default();
            if metrics.lines().any(|line| line == "etcd_server_is_leader 1") {
                leaders.push(index);
            }
        }
        leaders
    }

    /// The index of a member that is not the leader.
    ///
    /// # Panics
    ///
    /// When there is only one.
    pub async fn follower(&self) -> usize {
        assert!(self.members.len() > 1, "a single member has no followers");
        (self.leader().await + 1) % self.members.len()
    }

    /// Waits until every member that was started serves linearizable reads.
    ///
    /// # Panics
    ///
    /// When that takes too long; with what the members printed.
    pub async fn healthy(&mut self) {
        for index in 0..self.members.len() {
            if self.members[index].process.is_some() {
                self.member_healthy(index).await;
            }
        }
    }

    /// What member `index` has printed in its present run and those before.
    pub fn output(&self, index: usize) -> String {
        self.members[index].process.as_ref().map(Process::output).unwrap_or_default()
    }

    fn signal(&mut self, index: usize, signal: Signal) {
        let process = self.members[index].process.as_mut().expect("the member was started");
        assert!(process.signal(signal), "etcd member {index} has ended:\n{}", tail(&process.output()));
    }

    async fn member_healthy(&mut self, index: usize) {
        let port = self.members[index].metrics_port;
        let healthy = async || get(port, "/health").await?.contains(r#""health":"true""#).then_some(());
        if poll(SOON * 2, healthy).await.is_none() {
            panic!("etcd member {index} did not become healthy:\n{}", tail(&self.output(index)));
        }
    }

    fn data_dir(&self, member: &Member) -> PathBuf {
        self.dir.path().join(&member.name)
    }

    fn command(&self, member: &Member) -> Command {
        let client = |member: &Member| {
            let scheme = if self.config.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://127.0.0.1:{}", member.client_port)
        };
        let advertised = |index: usize| match &self.network {
            Some(network) => format!("http://{}", network.address(index)),
            None => format!("http://127.0.0.1:{}", self.members[index].peer_port),
        };
        let own = self.members.iter().position(|other| other.name == member.name).expect("a member of this cluster");
        let names = self.members.iter().map(|member| &member.name).enumerate();
        let all: Vec<String> = names.map(|(index, name)| format!("{name}={}", advertised(index))).collect();
        let mut command = Command::new(binary());
        command
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
            .args(["--name", &member.name, "--logger", "zap", "--initial-cluster-state", "new"])
            .arg("--data-dir")
            .arg(self.data_dir(member))
            .args(["--listen-client-urls", &client(member), "--advertise-client-urls", &client(member)])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", member.peer_port)])
            .args(["--initial-advertise-peer-urls", &advertised(own)])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{}", member.metrics_port)])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--initial-cluster-token", &format!("{}-{}", self.dir.path().display(), self.generation)]);
        if let Some(EtcdTls { ca, cert, key }) = &self.config.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
            command.arg("--cert-file").arg(cert).arg("--key-file").arg(key);
        }
        command.args(&self.config.args);
        command
    }

    /// Where the cluster keeps its data; a place for files of the same test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// The etcd that is started: what `ETCD_BIN` names, so that a test can be run on another version, otherwise the one on
/// the path.
pub fn binary() -> PathBuf {
    std::env::var_os("ETCD_BIN").filter(|path| !path.is_empty()).map_or_else(|| PathBuf::from("etcd"), PathBuf::from)
}

/// Asks for a path over plain HTTP; `None` when no answer comes soon, as from a frozen member.
async fn get(port: u16, path: &str) -> Option<String> {
    let asked = timeout(Duration::from_millis(500), async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    });
    asked.await.ok()?.ok()
}

/// The last lines of a log, for a message.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_member_serves_and_keeps_its_data_over_a_restart_but_not_over_a_wipe() {
        let mut etcd = EtcdCluster::start(1).await;
        etcd.etcdctl(&["put", "key", "value"]);
        etcd.kill(0);
        etcd.restart(0).await;
        assert_eq!(etcd.etcdctl(&["get", "key", "--print-value-only"]), "value\n");
        etcd.stop(0);
        etcd.restart(0).await;
        assert_eq!(etcd.etcdctl(&["get", "key", "--print-value-only"]), "value\n");
        etcd.wipe().await;
        assert_eq!(etcd.etcdctl(&["get", "key"]), "");
    }

    #[tokio::test]
    async fn three_members_elect_another_leader_when_theirs_is_frozen() {
        let mut etcd = EtcdCluster::start(3).await;
        let leader = etcd.leader().await;
        etcd.freeze(leader);
        let next = wait_for("another leader", SOON, || async {
            let next = etcd.leader().await;
            (next != leader).then_some(next)
        });
        assert_ne!(next.await, leader);
        etcd.thaw(leader);
        etcd.healthy().await;
    }
}
