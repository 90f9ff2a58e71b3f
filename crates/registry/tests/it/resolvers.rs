//! DNS as programs use it: `getaddrinfo` of musl and of glibc, at the registry itself and through dnsmasq and unbound.
//!
//! A libc asks port 53 of what `/etc/resolv.conf` names, so each server has a loopback address of its own, and the program a mount
//! namespace with a file of its own there.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

use hickory_proto::op::ResponseCode;
use registry::config::Config;
use tempfile::TempDir;
use testkit::{
    etcd::EtcdCluster,
    name_server::NameServer,
    process::Process,
    wait::{SOON, wait_for_eq, wait_until},
};

use crate::dns::Named;

/// The compilers, each with the libc that it links.
const COMPILERS: [&str; 2] = ["musl-gcc", "cc"];

/// What programs are linked to and whom they ask.
struct Clients {
    folder: TempDir,
    programs: Vec<PathBuf>,
    /// With the name of what answers there.
    servers: Vec<(&'static str, Ipv4Addr)>,
    _forwarders: Vec<Process>,
}

/// Loopback addresses of this process's own.
fn address(n: u8) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + n, high, low.clamp(1, 254))
}

/// What is missing for these tests; the kernel grants the namespaces and the port to root, and often to nobody else.
fn missing() -> Option<String> {
    let is_there = |program: &str| {
        let found = Command::new("sh").args(["-c", &format!("PATH=$PATH:/usr/sbin command -v {program}")]).output();
        found.is_ok_and(|output| output.status.success())
    };
    let programs = COMPILERS.into_iter().chain(["dnsmasq", "unbound"]);
    let absent: Vec<&str> = programs.filter(|program| !is_there(program)).collect();
    if !absent.is_empty() {
        return Some(format!("{} (Debian: musl-tools, dnsmasq-base, unbound)", absent.join(", ")));
    }
    let mount = Command::new("unshare").args(["-m", "mount", "--bind", "/etc/hosts", "/etc/resolv.conf"]).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        return Some("a mount namespace (unshare -m)".to_owned());
    }
    UdpSocket::bind((address(0), 53)).err().map(|error| format!("port 53 of a loopback address: {error}"))
}

impl Clients {
    /// Compiles the programs, and starts the forwarders in front of the registry.
    fn start(registry: Ipv4Addr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = COMPILERS.iter().map(|compiler| compile(compiler, folder.path())).collect();
        let dnsmasq = address(1);
        let unbound = address(2);
        let forwarders =
            vec![start_dnsmasq(folder.path(), dnsmasq, registry), start_unbound(folder.path(), unbound, registry)];
        let servers = vec![("the registry", registry), ("dnsmasq", dnsmasq), ("unbound", unbound)];
        Self { folder, programs, servers, _forwarders: forwarders }
    }

    /// Every program finds these addresses of `name`, whomever it asks.
    async fn find(&self, name: &str, expected: &[&str]) {
        for (server, address) in &self.servers {
            for program in &self.programs {
                let libc = program.file_name().unwrap().to_string_lossy().into_owned();
                let found = async || self.resolve(program, *address, name).await;
                wait_for_eq(&format!("{name} by {libc} through {server}"), SOON, expected.join("\n"), found).await;
            }
        }
    }

    async fn resolve(&self, program: &Path, server: Ipv4Addr, name: &str) -> String {
        let configuration = self.folder.path().join(format!("{server}.conf"));
        std::fs::write(&configuration, format!("nameserver {server}\noptions timeout:2 attempts:2\n")).unwrap();
        let script = r#"mount --bind "$1" /etc/resolv.conf && exec "$2" "$3""#;
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(configuration).arg(program).arg(name);
        // The registry lives in this process.
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        let mut lines: Vec<&str> = printed.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    }
}

fn compile(compiler: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/resolve.c");
    let program = folder.join(format!("resolve-{compiler}"));
    let compiled = Command::new(compiler).arg("-o").arg(&program).arg(source).output().unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    program
}

fn start_dnsmasq(folder: &Path, listen: Ipv4Addr, registry: Ipv4Addr) -> Process {
    let mut command = Command::new("sh");
    let script = r#"PATH=$PATH:/usr/sbin exec dnsmasq "$@""#;
    command.args(["-c", script, "sh", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"]);
    command.args(["--bind-interfaces", "--pid-file=", "--user=root", "--port=53"]);
    command.arg(format!("--listen-address={listen}")).arg(format!("--server=/muster/{registry}#53"));
    Process::start(&mut command, &folder.join("dnsmasq.log")).unwrap()
}

/// As doc/dns.md has it.
fn start_unbound(folder: &Path, listen: Ipv4Addr, registry: Ipv4Addr) -> Process {
    let configuration = format!(
        "server:\n  interface: {listen}@53\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  \
         do-not-query-localhost: no\n  domain-insecure: \"muster\"\n\
         forward-zone:\n  name: \"muster.\"\n  forward-addr: {registry}@53\n\
         remote-control:\n  control-enable: no\n"
    );
    let path = folder.join("unbound.conf");
    std::fs::write(&path, configuration).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"PATH=$PATH:/usr/sbin exec unbound -d -c "$1""#, "sh"]).arg(path);
    Process::start(&mut command, &folder.join("unbound.log")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn musl_and_glibc_resolve_a_service_directly_and_through_forwarders_also_while_etcd_is_away() {
    if let Some(missing) = missing() {
        println!("SKIPPED: {missing} is missing");
        return;
    }
    let hosts = NameServer::start().await;
    hosts.set("db.example.net", &["10.0.0.9"], 1);
    hosts.set("both.example.net", &["10.0.0.8", "fd00::8"], 1);
    let mut etcd = EtcdCluster::start(1).await;
    let configure = |config: &mut Config| config.admission.name_servers = vec![hosts.address()];
    let named = Named::launch_with(etcd.endpoints(), SocketAddr::from((address(0), 53)), configure).await;
    named.registry.wait_until_ready().await;
    named.register("mail/a", r#"{"address":"10.0.0.5:7070"}"#).await;
    named.register("files/a", r#"{"address":"db.example.net:25"}"#).await;
    named.register("web/a", r#"{"address":"both.example.net:80"}"#).await;
    named.register("web/b", r#"{"address":"10.0.0.7:80"}"#).await;
    let clients = Clients::start(address(0));
    let everything = async || {
        clients.find("mail.service.muster", &["10.0.0.5"]).await;
        clients.find("files.service.muster", &["10.0.0.9"]).await;
        clients.find("web.service.muster", &["10.0.0.7", "10.0.0.8", "fd00::8"]).await;
    };
    everything().await;
    etcd.kill(0);
    wait_until("the silence is noticed", SOON, async || {
        named.code("nobody.service.muster.").await == ResponseCode::ServFail
    })
    .await;
    everything().await;
}
