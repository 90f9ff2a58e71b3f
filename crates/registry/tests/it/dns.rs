//! DNS over real sockets: asked by `dig` (of BIND) as users do, and byte by byte where `dig` is too polite.

use std::{net::SocketAddr, process::Command, time::Duration};

use futures::future::join_all;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use registry::{config::Config, dns::DnsListen};
use reqwest::Method;
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    wait::{SOON, wait_for, wait_until},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::support::{Registry, instance_path, metric};

/// A registry that answers DNS questions on a port of its own.
pub(crate) struct Named {
    pub(crate) registry: Registry,
    dns: SocketAddr,
}

impl Named {
    async fn start(etcd: &EtcdCluster) -> Self {
        let named = Self::launch(etcd.endpoints()).await;
        named.registry.wait_until_ready().await;
        named
    }

    async fn launch(endpoints: Vec<String>) -> Self {
        Self::launch_at_rate(endpoints, 0).await
    }

    async fn launch_at_rate(endpoints: Vec<String>, rate: u32) -> Self {
        let dns = SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0]));
        Self::launch_with(endpoints, dns, |config| config.dns_client_rate = rate).await
    }

    /// One that answers at `dns`, configured otherwise.
    pub(crate) async fn launch_with(
        endpoints: Vec<String>,
        dns: SocketAddr,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let configure = |config: &mut Config| {
            config.dns_listen = DnsListen::At(dns);
            config.dns_client_rate = 0;
            configure(config);
        };
        let registry = Registry::launch(endpoints, configure).await;
        wait_until("it answers over TCP", SOON, async || TcpStream::connect(dns).await.is_ok()).await;
        Self { registry, dns }
    }

    pub(crate) async fn register(&self, key: &str, body: &str) {
        // Nobody keeps it alive while `dig` starts again and again.
        self.registry.beat(key, &body.replacen('{', r#"{"ttl_ms":600000,"#, 1)).await;
        let (service, instance) = key.split_once('/').unwrap();
        self.registry.wait_for_instance(service, instance, true).await;
    }

    /// What `dig` prints, on a thread of its own: the registry lives in this process, too.
    async fn dig(&self, question: &str) -> String {
        let port = self.dns.port().to_string();
        let mut arguments = vec!["@127.0.0.1".to_owned(), "-p".into(), port, "+tries=2".into(), "+time=3".into()];
        arguments.extend(question.split(' ').map(str::to_owned));
        let dig = tokio::task::spawn_blocking(move || Command::new("dig").args(arguments).output());
        let output = dig.await.unwrap().expect("dig is installed (Debian: bind9-dnsutils)");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// [`Named::dig`] for the answers alone, in order.
    async fn short(&self, question: &str) -> Vec<String> {
        let mut lines: Vec<String> = self.dig(&format!("+short {question}")).await.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.dns).await.unwrap();
        let mut answer = [0; 4096];
        for _ in 0..10 {
            socket.send(&question(name, kind)).await.unwrap();
            // A datagram may get lost when the kernel's buffer is full.
            if let Ok(read) = timeout(Duration::from_secs(1), socket.recv(&mut answer)).await {
                return Message::from_vec(&answer[..read.unwrap()]).unwrap();
            }
        }
        panic!("no answer about {name}");
    }

    pub(crate) async fn code(&self, name: &str) -> ResponseCode {
        self.ask(name, RecordType::A).await.metadata.response_code
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn framed(question: &[u8]) -> Vec<u8> {
    [&u16::try_from(question.len()).unwrap().to_be_bytes()[..], question].concat()
}

async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Message> {
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(Message::from_vec(&answer).unwrap())
}

#[tokio::test]
async fn dig_finds_what_was_registered_over_udp_and_over_tcp() {
    let etcd = EtcdCluster::start(1).await;
    let named = Named::start(&etcd).await;
    named.register("mail/a", r#"{"address":"10.0.0.5:7070","tags":["eu"],"weight":3}"#).await;
    named.register("mail/b", r#"{"address":"10.0.0.6:7071"}"#).await;
    named.register("mail/c", r#"{"address":"[fd00::1]:7072"}"#).await;
    for transport in ["+notcp", "+tcp"] {
        let short = async |question: &str| named.short(&format!("{transport} {question}")).await;
        assert_eq!(short("mail.service.muster A").await, ["10.0.0.5", "10.0.0.6"]);
        assert_eq!(short("mail.service.muster AAAA").await, ["fd00::1"]);
        assert_eq!(short("eu.mail.service.muster A").await, ["10.0.0.5"]);
        let servers = short("_mail._tcp.service.muster SRV").await;
        assert_eq!(servers[0], "1 1 7071 0a000006.addr.muster.");
        assert_eq!(servers[2], "1 3 7070 0a000005.addr.muster.");
        assert_eq!(short("0a000005.addr.muster A").await, ["10.0.0.5"]);
    }
    let printed = named.dig("+nostats mail.service.muster SRV").await;
    assert!(printed.contains("status: NOERROR") && printed.contains("flags: qr aa rd;"), "{printed}");
    assert!(printed.contains("ADDITIONAL: 4"), "three addresses and EDNS: {printed}");
    assert!(!printed.contains("WARNING: Message"), "{printed}");
}

#[tokio::test]
async fn dig_is_told_what_is_not_there_and_what_is_not_ours() {
    let etcd = EtcdCluster::start(1).await;
    let named = Named::start(&etcd).await;
    named.register("mail/a", r#"{"address":"10.0.0.5:7070"}"#).await;
    for (question, status) in [
        ("nobody.service.muster A", "NXDOMAIN"),
        ("mail.service.muster MX", "NOERROR"),
        ("example.com A", "REFUSED"),
        ("mail.service.muster CH TXT", "REFUSED"),
        ("+opcode=NOTIFY mail.service.muster", "NOTIMP"),
        ("+edns=1 +noednsneg mail.service.muster A", "BADVERS"),
    ] {
        let printed = named.dig(question).await;
        assert!(printed.contains(&format!("status: {status}")), "{question}: {printed}");
        assert!(printed.contains("ANSWER: 0"), "{question}: {printed}");
    }
    assert!(named.dig("nobody.service.muster").await.contains("ns.muster. hostmaster.muster."));
}

#[tokio::test]
async fn dig_gets_everything_of_a_crowd_by_turning_to_tcp() {
    const INSTANCES: usize = 120;
    let etcd = EtcdCluster::start(1).await;
    let named = Named::start(&etcd).await;
    join_all((0..INSTANCES).map(async |n| {
        named.registry.beat(&format!("mail/{n}"), &format!(r#"{{"address":"10.0.0.{n}:7070"}}"#)).await;
    }))
    .await;
    wait_until("all are listed", SOON, async || named.registry.instances("mail").await.len() == INSTANCES).await;
    assert_eq!(named.short("mail.service.muster A").await.len(), INSTANCES);
    let cut = named.dig("+ignore mail.service.muster A").await;
    assert!(cut.contains("flags: qr aa tc rd;"), "{cut}");
}

#[tokio::test]
async fn an_instance_that_wants_no_traffic_leaves_the_name_at_once() {
    let etcd = EtcdCluster::start(1).await;
    let named = Named::start(&etcd).await;
    named.register("mail/a", r#"{"address":"10.0.0.5:7070"}"#).await;
    named.register("mail/b", r#"{"address":"10.0.0.6:7070"}"#).await;
    let answers = async |count: usize| {
        wait_until(&format!("{count} answers"), SOON, async || {
            named.ask("mail.service.muster.", RecordType::A).await.answers.len() == count
        })
        .await;
    };
    answers(2).await;
    let path = format!("{}/override", instance_path("mail/a"));
    named.registry.ask(Method::PUT, &path, r#"{"status":"draining"}"#).await.accepted();
    answers(1).await;
    named.registry.beat("mail/b", r#"{"address":"10.0.0.6:7070","status":"critical"}"#).await;
    answers(0).await;
    assert_eq!(
        named.code("mail.service.muster.").await,
        ResponseCode::NoError,
        "the name is there, with nobody to use"
    );
    named.registry.delete(&instance_path("mail/a")).await.accepted();
    named.registry.delete(&instance_path("mail/b")).await.accepted();
    wait_until("the name is gone", SOON, async || named.code("mail.service.muster.").await == ResponseCode::NXDomain)
        .await;
}

#[tokio::test]
async fn a_registry_that_has_never_heard_of_etcd_says_so_and_not_that_nobody_is_there() {
    let named = Named::launch(vec![format!("http://127.0.0.1:{}", free_ports(1)[0])]).await;
    assert_eq!(named.code("mail.service.muster.").await, ResponseCode::ServFail);
    assert_eq!(named.code("example.com.").await, ResponseCode::Refused);
    assert_eq!(named.code("0a000005.addr.muster.").await, ResponseCode::NoError);
}

#[tokio::test]
async fn while_etcd_is_away_the_known_are_found_and_nobody_is_said_to_be_gone() {
    let mut etcd = EtcdCluster::start(1).await;
    let named = Named::start(&etcd).await;
    named.register("mail/a", r#"{"address":"10.0.0.5:7070"}"#).await;
    assert_eq!(named.code("nobody.service.muster.").await, ResponseCode::NXDomain);
    etcd.kill(0);
    wait_until("the silence is noticed", SOON, async || {
        named.code("nobody.service.muster.").await == ResponseCode::ServFail
    })
    .await;
    let known = named.ask("mail.service.muster.", RecordType::A).await;
    assert_eq!((known.metadata.response_code, known.answers.len()), (ResponseCode::NoError, 1));
    let other = named.ask("mail.service.muster.", RecordType::AAAA).await;
    assert_eq!((other.metadata.response_code, other.answers.len()), (ResponseCode::NoError, 0), "as well known");
}

#[tokio::test]
async fn one_connection_asks_many_questions_and_ends_when_it_talks_nonsense() {
    let named = Named::launch(vec![format!("http://127.0.0.1:{}", free_ports(1)[0])]).await;
    let mut stream = TcpStream::connect(named.dns).await.unwrap();
    let asked = framed(&question("0a000005.addr.muster.", RecordType::A));
    // All at once: each is answered, in order.
    stream.write_all(&asked.repeat(50)).await.unwrap();
    for _ in 0..50 {
        assert_eq!(read_framed(&mut stream).await.unwrap().answers.len(), 1);
    }
    stream.write_all(&framed(b"nonsense")).await.unwrap();
    let closed = timeout(SOON, stream.read(&mut [0; 16])).await.expect("it does not wait for more");
    assert_eq!(closed.unwrap_or(0), 0);
}

#[tokio::test]
async fn clients_that_say_nothing_are_cut_off_and_keep_nobody_out() {
    let named = Named::launch(vec![format!("http://127.0.0.1:{}", free_ports(1)[0])]).await;
    // More than one client may have; half of them announce a question that never comes.
    let mut idle = Vec::new();
    for n in 0..80 {
        let mut stream = TcpStream::connect(named.dns).await.unwrap();
        if n % 2 == 0 {
            // A connection too many may be closed already.
            let _ = stream.write_all(&[0xff, 0xff, 0]).await;
        }
        idle.push(stream);
    }
    let answer = wait_for("a question is answered", SOON, async || {
        let mut stream = TcpStream::connect(named.dns).await.ok()?;
        stream.write_all(&framed(&question("0a000005.addr.muster.", RecordType::A))).await.ok()?;
        read_framed(&mut stream).await.ok()
    })
    .await;
    assert_eq!(answer.answers.len(), 1);
    for mut stream in idle {
        let ended = timeout(SOON, stream.read(&mut [0; 16])).await.expect("it is closed within seconds");
        assert_eq!(ended.unwrap_or(0), 0);
    }
}

/// Memory of this process that is really used, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_nonsense_costs_no_memory_and_does_not_silence_it() {
    let named = Named::launch(vec![format!("http://127.0.0.1:{}", free_ports(1)[0])]).await;
    assert_eq!(named.code("0a000005.addr.muster.").await, ResponseCode::NoError);
    let before = resident_kib();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let good = question("nobody.service.muster.", RecordType::A);
    for n in 0..60_000_usize {
        // Cut off at any place, and with any byte wrong.
        let mut bytes = good.clone();
        bytes[n % good.len()] ^= n as u8;
        bytes.truncate(n % (good.len() + 1));
        let _ = socket.send_to(&bytes, named.dns).await;
    }
    assert_eq!(named.code("0a000005.addr.muster.").await, ResponseCode::NoError);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_too_often_over_udp_is_sent_to_tcp_and_gets_nothing_longer_than_its_question() {
    const RATE: u32 = 5;
    let etcd = EtcdCluster::start(1).await;
    let named = Named::launch_at_rate(etcd.endpoints(), RATE).await;
    named.registry.wait_until_ready().await;
    named.register("mail/a", r#"{"address":"10.0.0.5:7070"}"#).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let question = question("mail.service.muster.", RecordType::A);
    let mut full = 0;
    let mut truncated = 0;
    let mut bytes = [0; 4096];
    let started = std::time::Instant::now();
    for _ in 0..200 {
        socket.send_to(&question, named.dns).await.unwrap();
        let (length, _) = timeout(SOON, socket.recv_from(&mut bytes)).await.expect("an answer").unwrap();
        let answer = Message::from_vec(&bytes[..length]).unwrap();
        assert_eq!((answer.metadata.id, answer.metadata.message_type), (4711, MessageType::Response));
        match answer.metadata.truncation {
            false => full += 1,
            true => {
                truncated += 1;
                assert!(answer.answers.is_empty() && length <= question.len(), "{length} bytes");
            }
        }
    }
    let most = 2 * RATE + RATE * (started.elapsed().as_secs() as u32 + 1);
    assert!(full >= 2 * RATE && full <= most && truncated > 0, "{full} answered, {truncated} sent to TCP");
    assert_eq!(named.short("mail.service.muster").await, ["10.0.0.5"], "dig goes on over TCP by itself");
    assert!(metric(&named.registry, "registry_dns_truncated_total").await >= f64::from(truncated));
}

#[tokio::test]
async fn a_port_that_was_asked_for_and_is_taken_is_a_mistake() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = registry::dns::bind(DnsListen::At(taken.local_addr().unwrap())).await.unwrap_err();
    assert!(error.to_string().contains("DNS"), "{error}");
    assert!(registry::dns::bind(DnsListen::Off).await.unwrap().is_none());
}
