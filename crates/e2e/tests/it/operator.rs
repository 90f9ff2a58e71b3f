//! An operator's commands against a registry that speaks https and asks for tokens, as it runs in production.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use e2e::binaries;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_until},
};

/// One etcd member, one closed registry, one gateway; they end with this value.
struct Installation {
    etcd: EtcdCluster,
    registry: String,
    admin: String,
    folder: tempfile::TempDir,
    _programs: Vec<Process>,
}

impl Installation {
    async fn start() -> Self {
        let etcd = EtcdCluster::start(1).await;
        let folder = tempfile::tempdir().unwrap();
        issue(folder.path());
        token(folder.path());
        let ports = free_ports(3);
        let registry = format!("https://127.0.0.1:{}", ports[0]);
        let admin = format!("http://127.0.0.1:{}", ports[2]);
        let file = |name: &str| folder.path().join(name);
        let start = |name: &str, environment: &[(&str, PathBuf)]| {
            let mut command = Command::new(binaries::find(name));
            command.env_clear().envs(environment.iter().cloned()).env("ETCD_ENDPOINTS", etcd.endpoint(0));
            Process::start(&mut command, &file(&format!("{name}.log"))).unwrap()
        };
        let listen = |port: u16| PathBuf::from(format!("127.0.0.1:{port}"));
        let programs = vec![
            start(
                "registry",
                &[
                    ("REGISTRY_LISTEN", listen(ports[0])),
                    ("REGISTRY_DNS_LISTEN", "off".into()),
                    ("REGISTRY_TOKENS_FILE", file("tokens")),
                    ("TLS_CERT_FILE", file("server.pem")),
                    ("TLS_KEY_FILE", file("server.key")),
                ],
            ),
            start("balance", &[("BALANCE_LISTEN", listen(ports[1])), ("BALANCE_ADMIN_LISTEN", listen(ports[2]))]),
        ];
        let this = Self { etcd, registry, admin, folder, _programs: programs };
        wait_until("the installation is well", SOON * 2, async || this.status(&[]).status.code() == Some(0)).await;
        this
    }

    /// `muster` with these arguments; nothing in its environment says where to look.
    fn muster(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::find("muster"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
        // So that no sentence is wrapped.
        command.env("COLUMNS", "300");
        command
    }

    /// The same, allowed and trusting.
    fn known(&self, arguments: &[&str]) -> Command {
        let mut command = self.muster(arguments);
        command.args(["--registry", &self.registry, "--ca", "ca.pem", "--registry-token-file", "token"]);
        command
    }

    fn status(&self, more: &[&str]) -> Output {
        let mut command = self.known(&["status"]);
        command.args(["--admin", &self.admin, "--etcd-endpoints", &self.etcd.endpoint(0)]).args(more);
        command.output().unwrap()
    }
}

/// Writes `server.pem`, `server.key` and `ca.pem`.
fn issue(folder: &Path) {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key()).unwrap();
    let own = key();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &authority).unwrap();
    std::fs::write(folder.join("server.key"), own.serialize_pem()).unwrap();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
}

/// Writes `token`, for clients, and `tokens`, for the registry.
fn token(folder: &Path) {
    let mut new = Command::new(binaries::find("registry"));
    let printed = new.args(["token", "new", "ops", "--scope", "*:*"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let (secret, line) = printed.split_once('\n').unwrap();
    std::fs::write(folder.join("token"), secret).unwrap();
    std::fs::write(folder.join("tokens"), line).unwrap();
}

/// What a command printed, both streams, and its exit code.
fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn commands_send_the_token_trust_the_authority_and_say_what_is_missing() {
    let here = Installation::start().await;
    here.etcd.etcdctl(&["put", "service/web/w-1", "127.0.0.1:9"]);
    let ls = |more: &[&str]| run(here.muster(&["ls", "--registry", &here.registry]).args(more));
    let (code, text) = ls(&[]);
    assert!(code == Some(1) && text.contains("certificate"), "{text}");
    let (code, text) = ls(&["--ca", "ca.pem"]);
    assert!(code == Some(1) && text.contains("401") && text.contains("--registry-token-file FILE"), "{text}");
    let listed = |text: &str| text.contains("w-1") && text.contains(&here.registry);
    wait_until("the instance", SOON, async || {
        let (_, text) = ls(&["--ca", "ca.pem", "--registry-token-file", "token"]);
        listed(&text)
    })
    .await;
    let mut by_variables = here.muster(&["ls"]);
    by_variables.env("REGISTRY_CA_FILE", "ca.pem").env("REGISTRY_TOKEN_FILE", "token");
    let (code, text) = run(by_variables.env("REGISTRY_URLS", &here.registry));
    assert!(code == Some(0) && listed(&text) && text.contains("(REGISTRY_URLS)"), "{text}");
    let (code, text) = run(here.known(&["ls"]).env("REGISTRY_URLS", "http://127.0.0.1:1"));
    assert!(code == Some(0) && listed(&text) && text.contains("(--registry)"), "the option wins: {text}");
}

#[tokio::test]
async fn the_hint_of_a_drain_undoes_it_when_it_is_pasted() {
    let here = Installation::start().await;
    here.etcd.etcdctl(&["put", "service/web/w-1", "127.0.0.1:9"]);
    let (code, text) = run(&mut here.known(&["drain", "web", "w-1"]));
    assert_eq!(code, Some(0), "{text}");
    let hint = text.lines().find(|line| line.ends_with("--undo")).expect("a line to paste");
    let mut shell = Command::new("sh");
    let (code, text) = run(shell.args(["-c", hint]).current_dir(here.folder.path()));
    assert!(code == Some(0) && text.contains("w-1 is back in rotation") && !text.contains("was not"), "{text}");
}

#[tokio::test]
async fn status_is_one_screen_with_the_worst_first_and_an_exit_code() {
    let here = Installation::start().await;
    here.etcd.etcdctl(&["put", "service/web/w-1", "127.0.0.1:9"]);
    let shown = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    wait_until("a service that is well", SOON, async || {
        let output = here.status(&[]);
        output.status.code() == Some(0) && shown(&output).contains("1 service with its instances: web 1")
    })
    .await;
    here.etcd.etcdctl(&["put", "service/web/w-1", "http://127.0.0.1:9?status=critical"]);
    wait_until("a service that is down", SOON, async || {
        let output = here.status(&[]);
        output.status.code() == Some(1) && shown(&output).starts_with("DOWN     web is down: none of its 1 instances")
    })
    .await;
    here.etcd.etcdctl(&["del", "service/web/w-1"]);
    wait_until("who is gone", SOON, async || {
        shown(&here.status(&[]))
            .contains("web is down: no instance is registered; the last one, w-1: its heartbeats stopped")
    })
    .await;
    let text = shown(&here.status(&[]));
    assert!(text.lines().count() < 24 && text.contains("etcd: 1 of 1 members answer"), "{text}");
    let json = here.status(&["--json"]).stdout;
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&json).unwrap()["verdict"], "wrong");
}

#[tokio::test]
async fn status_cannot_tell_where_nothing_answers_or_nothing_may_be_asked() {
    let here = Installation::start().await;
    let nowhere = ["status", "--registry", "http://127.0.0.1:1", "--admin", "http://127.0.0.1:1"];
    let (code, text) = run(here.muster(&nowhere).args(["--etcd-endpoints", "http://127.0.0.1:1"]));
    assert!(code == Some(2) && text.contains("unknown  registry http://127.0.0.1:1 does not answer"), "{text}");
    let closed = ["status", "--registry", &here.registry, "--ca", "ca.pem", "--admin", &here.admin];
    let (code, text) = run(here.muster(&closed).args(["--etcd-endpoints", &here.etcd.endpoint(0)]));
    assert!(
        code == Some(2) && text.contains("which services there are cannot be told") && text.contains("401"),
        "{text}"
    );
}
