//! Instances with host names, and name servers that are dead, slow, or say something else than before.

use std::{net::SocketAddr, time::Duration};

use socket2::{Domain, Socket, Type};
use testkit::{
    etcd::EtcdCluster,
    name_server::{Manner, NameServer},
    upstream::Upstream,
    wait::{SOON, wait_until},
};
use tokio::time::{MissedTickBehavior, interval};

use crate::support::{Program, get};

/// More threads than the gateway has of its own: workers, the control runtime's, and those that wait for files.
const THREADS_MAX: usize = 40;

struct Suite {
    etcd: EtcdCluster,
    program: Program,
}

impl Suite {
    /// The gateway, which asks these name servers, in front of `mail` with instances at these addresses.
    async fn start(name_servers: &[&NameServer], instances: &[String]) -> Self {
        let etcd = EtcdCluster::start(1).await;
        for (n, address) in instances.iter().enumerate() {
            etcd.etcdctl(&["put", &format!("service/mail/{n}"), address]);
        }
        let addresses: Vec<_> = name_servers.iter().map(|server| server.address().to_string()).collect();
        let option = format!("--name-servers={}", addresses.join(","));
        // Each request connects anew.
        let options = [&*option, "--workers=2", "--upstream-keep-alive=0s"];
        let program = Program::start(etcd.dir(), &etcd.endpoint(0), &options).await;
        wait_until("the table", SOON, async || program.admin("/v1/table").await["services"]["mail"].is_object()).await;
        Self { etcd, program }
    }

    /// The verdict and the reasons for instance `n`.
    async fn told(&self, n: usize) -> (String, String) {
        let explanation = self.program.admin("/explain?service=mail").await;
        let instance = &explanation["instances"][n];
        (instance["verdict"].as_str().unwrap_or_default().to_owned(), instance["why"].to_string())
    }

    /// Nothing was held against an instance.
    async fn nobody_was_judged(&self) {
        let metrics = self.program.metrics().await;
        for line in [
            "balance_ejections_total{service=\"mail\"} 0",
            "balance_attempts_failed_total{service=\"mail\",reason=\"connect\"} 0",
            "balance_instances{service=\"mail\",state=\"ejected\"} 0",
        ] {
            assert!(metrics.contains(line), "{line} in\n{metrics}\n{}", self.program.output());
        }
    }
}

fn at(name: &str, upstream: &Upstream) -> String {
    format!("{name}:{}", upstream.address().port())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_first_name_server_ejects_nobody_and_makes_no_threads() {
    let (dead, well) = (NameServer::start().await, NameServer::start().await);
    dead.set_manner(Manner::Silent);
    let (a, b) = (Upstream::named("a").await, Upstream::named("b").await);
    // Looked up again all the time.
    well.set("a.test", &["127.0.0.1"], 0);
    well.set("b.test", &["127.0.0.1"], 0);
    let suite = Suite::start(&[&dead, &well], &[at("a.test", &a), at("b.test", &b)]).await;
    let mut ticks = interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = tokio::task::JoinSet::new();
    let mut threads = 0;
    for _ in 0..300 {
        ticks.tick().await;
        asked.spawn(get(suite.program.address, "/mail"));
        threads = threads.max(suite.program.threads());
    }
    while let Some(answer) = asked.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    suite.nobody_was_judged().await;
    assert!(threads < THREADS_MAX, "{threads} threads");
    assert!(dead.questions("a.test") > 0, "the dead one was asked first");
    assert_eq!([suite.told(0).await.0, suite.told(1).await.0], ["in_rotation", "in_rotation"]);
}

#[tokio::test]
async fn traffic_goes_on_while_the_name_server_is_dead_and_explain_says_so() {
    let (server, mail) = (NameServer::start().await, Upstream::named("mail").await);
    server.set("mail.test", &["127.0.0.1"], 1);
    let suite = Suite::start(&[&server], &[at("mail.test", &mail)]).await;
    assert_eq!(suite.program.get("/mail").await.text(), "mail");
    server.set_manner(Manner::Silent);
    wait_until("the trouble to be told", SOON, async || {
        assert_eq!(suite.program.get("/mail").await.text(), "mail");
        let (verdict, why) = suite.told(0).await;
        let is_told = why.contains("cannot be resolved for now: no name server answered within")
            && why.contains("the addresses of its last answer are used");
        verdict == "in_rotation" && is_told
    })
    .await;
    let metrics = suite.program.metrics().await;
    assert!(metrics.contains("balance_names{state=\"stale\"} 1"), "{metrics}");
    suite.nobody_was_judged().await;
    server.set_manner(Manner::Prompt);
    wait_until("the end of it", SOON, async || !suite.told(0).await.1.contains("cannot be resolved")).await;
}

#[tokio::test]
async fn an_instance_whose_name_was_never_resolved_is_passed_over_and_not_judged() {
    let (server, well) = (NameServer::start().await, Upstream::named("well").await);
    server.set_manner(Manner::Silent);
    let suite = Suite::start(&[&server], &["mail.test:7070".to_owned(), well.address().to_string()]).await;
    for _ in 0..20 {
        assert_eq!(suite.program.get("/mail").await.text(), "well");
    }
    wait_until("the reason", SOON, async || {
        let (verdict, why) = suite.told(0).await;
        verdict == "unresolved" && why.contains("has a name that cannot be resolved for now")
    })
    .await;
    suite.nobody_was_judged().await;
    suite.etcd.etcdctl(&["del", "service/mail/1"]);
    wait_until("a 503 with the reason", SOON, async || {
        let answer = suite.program.get("/mail").await;
        answer.status == 503
            && answer.problem().1.contains("has a name that cannot be resolved for now: no name server")
    })
    .await;
    server.set("mail.test", &["127.0.0.1"], 1);
    suite.nobody_was_judged().await;
}

#[tokio::test]
async fn a_name_whose_first_address_is_silent_is_served_by_the_second() {
    let (server, mail) = (NameServer::start().await, Upstream::named("mail").await);
    let _full = Full::at(([127, 0, 0, 2], mail.address().port()).into());
    server.set("mail.test", &["127.0.0.2", "127.0.0.1"], 60);
    let suite = Suite::start(&[&server], &[at("mail.test", &mail)]).await;
    for _ in 0..3 {
        let answer = suite.program.get("/mail").await;
        assert_eq!(answer.text(), "mail", "{}", answer.head);
    }
    wait_until("a check", SOON, async || suite.told(0).await.1.contains("health check: passed")).await;
    suite.nobody_was_judged().await;
}

#[tokio::test]
async fn an_address_that_a_name_has_now_is_held_to_the_rules() {
    let (server, mail) = (NameServer::start().await, Upstream::named("mail").await);
    server.set("mail.test", &["240.0.0.1", "127.0.0.1"], 0);
    let suite = Suite::start(&[&server], &[at("mail.test", &mail)]).await;
    assert_eq!(suite.program.get("/mail").await.text(), "mail", "the forbidden one is skipped");
    server.set("mail.test", &["240.0.0.1", "64:ff9b::7f00:1"], 0);
    wait_until("the refusal", SOON, async || {
        let answer = suite.program.get("/mail").await;
        answer.status == 503 && answer.problem().1.contains("never used")
    })
    .await;
    server.set("mail.test", &["127.0.0.1"], 0);
    wait_until("mail again", SOON, async || suite.program.get("/mail").await.status == 200).await;
}

/// A listener that never accepts and whose queue is full: a client that connects there hears nothing.
struct Full {
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl Full {
    fn at(address: SocketAddr) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let mut queued = Vec::new();
        loop {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let is_full = client.connect_timeout(&address.into(), Duration::from_millis(300)).is_err();
            queued.push(client);
            if is_full {
                return Self { _listener: listener, _queued: queued };
            }
        }
    }
}
