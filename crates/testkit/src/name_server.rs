//! A name server for tests: it answers over UDP on a loopback port with the addresses that it is told, or fails as
//! told.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::{net::UdpSocket, task::JoinHandle, time::sleep};

/// The longest question that is read, in bytes.
const QUESTION_MAX_BYTES: usize = 4096;

/// See the [module](self). Dropping it ends it.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    serving: JoinHandle<()>,
}

/// How it treats questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manner {
    /// It answers at once.
    #[default]
    Prompt,
    /// It answers after a while.
    Slow(Duration),
    /// It takes questions and never answers, like one that is dead.
    Silent,
    /// It answers SERVFAIL.
    Failing,
    /// It never answers the question for IPv6 addresses, like one behind a faulty firewall.
    SilentAboutIpv6,
    /// It never answers the question for IPv4 addresses.
    SilentAboutIpv4,
}

#[derive(Debug, Default)]
struct Shared {
    manner: Manner,
    /// By name, in lower case and without the dot at the end.
    names: HashMap<String, (Vec<IpAddr>, u32)>,
    questions: Vec<String>,
}

// === impl NameServer ===

impl NameServer {
    /// Answers on a free loopback port that there is no such name, until it is told more.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Mutex<Shared>>::default();
        let serving = tokio::spawn(serve(socket, Arc::clone(&shared)));
        Self { address, shared, serving }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `name` has these addresses, for `ttl_s` seconds.
    ///
    /// # Panics
    ///
    /// When one is no IP address.
    pub fn set(&self, name: &str, addresses: &[&str], ttl_s: u32) {
        let addresses = addresses.iter().map(|ip| ip.parse().expect("an IP address")).collect();
        self.lock().names.insert(name.to_owned(), (addresses, ttl_s));
    }

    /// From now on there is no such name.
    pub fn remove(&self, name: &str) {
        self.lock().names.remove(name);
    }

    /// From now on it treats questions like this.
    pub fn set_manner(&self, manner: Manner) {
        self.lock().manner = manner;
    }

    /// How often it was asked for the IPv4 addresses of `name`.
    pub fn questions(&self, name: &str) -> usize {
        self.lock().questions.iter().filter(|asked| *asked == name).count()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(socket: UdpSocket, shared: Arc<Mutex<Shared>>) {
    let socket = Arc::new(socket);
    let mut buffer = [0; QUESTION_MAX_BYTES];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let Ok(request) = Message::from_vec(&buffer[..length]) else { continue };
        let (manner, response) = lock(&shared).answer(&request);
        let asked = request.queries.first().map(Query::query_type);
        let is_silent = match manner {
            Manner::Silent => true,
            Manner::SilentAboutIpv6 => asked == Some(RecordType::AAAA),
            Manner::SilentAboutIpv4 => asked == Some(RecordType::A),
            Manner::Prompt | Manner::Slow(_) | Manner::Failing => false,
        };
        let Some(bytes) = response.to_vec().ok().filter(|_| !is_silent) else { continue };
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            if let Manner::Slow(pause) = manner {
                sleep(pause).await;
            }
            let _client_may_be_gone = socket.send_to(&bytes, client).await;
        });
    }
}

// === impl Shared ===

impl Shared {
    fn answer(&mut self, request: &Message) -> (Manner, Message) {
        let mut response = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        response.metadata.recursion_desired = request.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_queries(request.queries.iter().take(1).cloned());
        response.metadata.response_code = match request.queries.first() {
            _ if self.manner == Manner::Failing => ResponseCode::ServFail,
            Some(query) => self.fill(&mut response, query),
            None => ResponseCode::FormErr,
        };
        (self.manner, response)
    }

    fn fill(&mut self, response: &mut Message, query: &Query) -> ResponseCode {
        let name = query.name().to_string().trim_end_matches('.').to_ascii_lowercase();
        if query.query_type() == RecordType::A {
            self.questions.push(name.clone());
        }
        let Some((addresses, ttl_s)) = self.names.get(&name) else { return ResponseCode::NXDomain };
        let asked = addresses.iter().filter(|ip| match query.query_type() {
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            _ => false,
        });
        response.add_answers(asked.map(|ip| Record::from_rdata(query.name().clone(), *ttl_s, RData::from(*ip))));
        ResponseCode::NoError
    }
}
