//! A gateway of one core between clients and instances that speak frames, and a ticker that moves its clock.

use std::{
    future::{Future, poll_fn},
    rc::Rc,
    time::Duration,
};

use discovery::{Instance, LeaseId, Registered, Revision, Update, policy::Policy};
use testkit::wait::{SOON, wait_until};
use tokio::{
    io::{DuplexStream, duplex},
    task::{LocalSet, spawn_local},
    time::{interval, timeout},
};

use super::frames::{Connection, Frame, Stream, downstream::serve, upstream::Network};
use crate::{
    addresses::AddressPolicy,
    clock::{Millis, TICK},
    config::GatewayOptions,
    counters::Totals,
    discovery::instances::Instances,
    downstream::deadlines::ConnectionTimers,
    listener::connection,
    message::headers::Client,
    proxy::context::Gateway,
    table::routing_table::{Source, TableHandle},
    telemetry::metrics::DataMetrics,
};

/// Where the instances of `mail` listen.
pub(super) const ADDRESSES: [&str; 3] = ["10.0.0.1:7070", "10.0.0.2:7070", "10.0.0.3:7070"];

/// SHA-256 of `abc` (FIPS 180-4).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// See the [module](self).
pub(super) struct Harness {
    pub(super) gateway: Rc<Gateway>,
    pub(super) network: Network,
    pub(super) client: Connection,
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// Runs a test where tasks of one thread may be spawned.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let within = async { timeout(3 * SOON, LocalSet::new().run_until(test)).await.expect("the test came to an end") };
    runtime.block_on(within);
}

// === impl Harness ===

impl Harness {
    /// With so many instances, which all listen, in turn.
    pub(super) fn new(instances: usize, policy: Policy) -> Self {
        Self::with_options(instances, policy, GatewayOptions::default())
    }

    /// The same with other options than the defaults.
    pub(super) fn with_options(instances: usize, policy: Policy, options: GatewayOptions) -> Self {
        let network = Network::default();
        let addresses = &ADDRESSES[..instances];
        addresses.iter().for_each(|address| network.listen(address));
        Self::start(addresses, policy, options, Some(network), |_| {})
    }

    /// With one instance of `mail`, whose policy in etcd is `text`, one of `auth` at the next address, and the API key
    /// `abc` for `mail`.
    pub(super) fn asking(text: &str) -> Self {
        let network = Network::default();
        ADDRESSES[..2].iter().for_each(|address| network.listen(address));
        Self::start(&ADDRESSES[..1], Policy::default(), GatewayOptions::default(), Some(network), |known| {
            let key = "service/auth/0".parse().unwrap();
            known.apply(Update::Add(Registered { key, ..registered(0, ADDRESSES[1]) }), Millis::now());
            known.set_policy(&"mail".parse().unwrap(), Some(text.to_owned())).unwrap();
            let key = format!(r#"{{"sha256":"{ABC}","services":["mail"]}}"#);
            assert_eq!(known.set_access_key(&"ci".parse().unwrap(), Some(key)), None);
        })
    }

    /// With an instance at a real address, which speaks HTTP/1.1.
    pub(super) fn before(address: &str) -> Self {
        Self::start(&[address], Policy::default(), GatewayOptions::default(), None, |_| {})
    }

    fn start(
        instances: &[&str],
        policy: Policy,
        options: GatewayOptions,
        network: Option<Network>,
        tell: impl FnOnce(&mut Instances),
    ) -> Self {
        let addresses = AddressPolicy::default();
        let mut known = Instances::new(1, addresses.clone(), Duration::from_secs(600)).with_policy(policy);
        for (n, address) in instances.iter().enumerate() {
            known.apply(Update::Add(registered(n, address)), Millis::now());
        }
        tell(&mut known);
        known.at(Source::Etcd, Revision(1));
        let table = TableHandle::new();
        table.publish(known.table().unwrap());
        let refusals = DataMetrics::new(&options).refusals;
        let mut gateway = Gateway::new(0, options, table, addresses, refusals);
        gateway.upstreams.network.clone_from(&network);
        let gateway = Rc::new(gateway);
        spawn_local(tick(Rc::clone(&gateway)));
        let client = Connection::default();
        spawn_local(serve(client.clone(), Rc::clone(&gateway)));
        Self { gateway, network: network.unwrap_or_default(), client }
    }

    /// A client of the same gateway that speaks HTTP/1.1.
    pub(super) fn http1_client(&self) -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        let client = Client::new("10.0.0.9".parse().unwrap(), false);
        let timers = Rc::new(ConnectionTimers::new(client, Rc::clone(&self.gateway.clock)));
        self.gateway.downstreams.add(&timers);
        spawn_local(connection::serve(near, Rc::clone(&self.gateway), timers));
        far
    }

    /// What instance `n` does with each request, whatever connection it comes on.
    pub(super) fn instance<F: Future<Output = ()> + 'static>(&self, n: usize, answer: impl Fn(Stream) -> F + 'static) {
        let (network, answer) = (self.network.clone(), Rc::new(answer));
        spawn_local(async move {
            while let Some(connection) = network.accept(ADDRESSES[n]).await {
                let answer = Rc::clone(&answer);
                spawn_local(async move {
                    while let Some(stream) = connection.accept().await {
                        spawn_local(answer(stream));
                    }
                });
            }
        });
    }

    /// Sends a request without a body, and leaves its answer to be read.
    pub(super) fn send(&self, method: &str) -> Stream {
        let stream = self.begin(method, "");
        stream.send(Frame::End);
        stream
    }

    /// Sends the head of a request, with these lines in it.
    pub(super) fn begin(&self, method: &str, lines: &str) -> Stream {
        let stream = self.client.open().expect("the client's connection stands");
        stream.send(Frame::Head(format!("{method} /mail HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()));
        stream
    }

    /// One request without a body, and its answer.
    pub(super) async fn ask(&self, method: &str) -> Message {
        self.send(method).message().await.expect("an answer")
    }

    /// What was counted for `mail`.
    pub(super) fn totals(&self) -> Totals {
        Totals::of(&self.gateway.table.load().service("mail").unwrap().balancer.cores)
    }

    /// How many requests are under way at the instances.
    pub(super) fn in_flight(&self) -> u32 {
        let table = self.gateway.table.load();
        table.service("mail").unwrap().balancer.candidates.all().iter().map(|one| one.state.load.in_flight()).sum()
    }

    /// Waits until that is so.
    pub(super) async fn wait_for(&self, what: &str, is: impl Fn(&Self) -> bool) {
        wait_until(what, SOON, || async { is(self) }).await;
    }
}

fn registered(n: usize, address: &str) -> Registered {
    Registered {
        key: format!("service/mail/{n}").parse().unwrap(),
        instance: Instance::parse(address.as_bytes()).unwrap(),
        lease: Some(LeaseId(1)),
        created: Revision(1),
        modified: Revision(1),
    }
}

async fn tick(gateway: Rc<Gateway>) {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        gateway.tick();
    }
}

// === impl Stream ===

impl Stream {
    /// Reads a whole message, interim responses left out; `None` when it breaks off.
    pub(super) async fn message(&self) -> Option<Message> {
        let mut message = Message { head: String::new(), body: Vec::new() };
        loop {
            match timeout(SOON, self.frame()).await.expect("a frame came in time") {
                Ok(Frame::Head(head)) => message.head = String::from_utf8(head).unwrap(),
                Ok(Frame::Data(data)) => message.body.extend(data),
                Ok(Frame::End) => return Some(message),
                Ok(Frame::Reset) | Err(_) => return None,
            }
        }
    }

    /// Sends a body as there is room for it, and its end.
    pub(super) async fn send_body(&self, mut body: &[u8]) {
        while !body.is_empty() {
            let sent = poll_fn(|cx| self.poll_send_data(cx, body));
            let count = timeout(SOON, sent).await.expect("there is room in time").expect("the connection stands");
            body = &body[count..];
        }
        self.send(Frame::End);
    }

    /// The stream is broken off by the other side, whatever comes before.
    pub(super) async fn is_reset(&self) {
        let reset = async { while !matches!(self.frame().await, Ok(Frame::Reset) | Err(_)) {} };
        timeout(SOON, reset).await.expect("the stream is reset in time");
    }

    /// Answers the request that comes on it.
    pub(super) async fn answer(&self, status: u16, body: &[u8]) {
        if self.message().await.is_some() {
            self.send(Frame::Head(
                format!("HTTP/1.1 {status} \r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(),
            ));
            self.send(Frame::Data(body.to_vec()));
            self.send(Frame::End);
        }
    }
}

// === impl Message ===

impl Message {
    pub(super) fn status(&self) -> u16 {
        self.head["HTTP/1.1 ".len()..][..3].parse().unwrap()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `code` of a problem.
    pub(super) fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }
}
