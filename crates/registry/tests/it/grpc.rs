//! The registry over gRPC, with the client that tonic generates from `muster.proto`.

mod documented;
mod embedded;
mod errors;
mod faults;
mod grpcio;
mod late;
mod load;
mod published;
mod streams;
mod unread;

use std::{net::SocketAddr, process::Command, time::Duration};

use muster_proto::v1::{
    Heartbeat, HeartbeatReply, Instance, ListRequest, Registered, WatchReply, WatchRequest,
    registry_client::RegistryClient,
};
use testkit::{
    etcd::EtcdCluster,
    ports::free_ports,
    process::Process,
    wait::{SOON, wait_for, wait_until},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::support::Registry;

/// A stream of heartbeats that is open.
struct Beats {
    heartbeats: mpsc::Sender<Heartbeat>,
    replies: Streaming<HeartbeatReply>,
}

/// A registry as a process, which can be killed and stopped.
struct Program {
    process: Process,
    address: SocketAddr,
}

/// What is said over one connection.
#[derive(Clone)]
struct Client {
    calls: RegistryClient<Channel>,
    token: Option<String>,
}

/// A heartbeat of `mail/a`, or the like, at 10.0.0.5:7070.
fn heartbeat(key: &str, incarnation: &str) -> Heartbeat {
    let (service, id) = key.split_once('/').unwrap();
    Heartbeat {
        service: service.to_owned(),
        id: id.to_owned(),
        instance: Some(Instance { address: "10.0.0.5:7070".to_owned(), ..Instance::default() }),
        ttl_ms: 60_000,
        incarnation: incarnation.to_owned(),
    }
}

/// `grpc://…` for `http://…`.
fn rpc_url(url: &str) -> String {
    url.replacen("http", "grpc", 1)
}

impl Program {
    async fn start(etcd: &EtcdCluster) -> Self {
        Self::start_with(etcd, |_| {}).await
    }

    async fn start_with(etcd: &EtcdCluster, configure: impl FnOnce(&mut Command)) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0])), etcd, configure).await
    }

    async fn start_at(address: SocketAddr, etcd: &EtcdCluster, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
        command.env_clear().env("REGISTRY_LISTEN", address.to_string()).env("REGISTRY_DNS_LISTEN", "off");
        command.env("ETCD_ENDPOINTS", etcd.endpoint(0));
        configure(&mut command);
        let process = Process::start(&mut command, &etcd.dir().join(format!("{}.log", address.port()))).unwrap();
        let this = Self { process, address };
        wait_until("it is ready", SOON, async || this.get("/readyz").await.is_some()).await;
        this
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn get(&self, path: &str) -> Option<String> {
        let response = reqwest::get(format!("{}{path}", self.url())).await.ok()?.error_for_status().ok()?;
        response.text().await.ok()
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }
}

impl Client {
    async fn of(registry: &Registry) -> Self {
        Self::at(&registry.url).await
    }

    async fn at(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        // Room for what is not read of many streams, so that they do not hold up each other.
        let endpoint = endpoint.initial_stream_window_size(64 * 1024).initial_connection_window_size(64 * 1024 * 1024);
        Self { calls: RegistryClient::new(endpoint.connect().await.unwrap()), token: None }
    }

    fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }

    async fn register(&self) -> Result<Beats, Status> {
        let (heartbeats, received) = mpsc::channel(16);
        let replies = self.calls.clone().register(self.request(ReceiverStream::new(received))).await?.into_inner();
        Ok(Beats { heartbeats, replies })
    }

    /// One heartbeat over a stream of its own, sent again while etcd is busy.
    async fn beat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, Status> {
        let settled = wait_for("an answer other than UNAVAILABLE", SOON, async || {
            let answer = self.register().await.unwrap().say(heartbeat.clone()).await;
            (answer.as_ref().err().map(Status::code) != Some(Code::Unavailable)).then_some(answer)
        });
        settled.await
    }

    async fn list(&self, service: &str) -> Result<Vec<Registered>, Status> {
        let request = ListRequest { service: service.to_owned(), ..ListRequest::default() };
        let mut parts = self.calls.clone().list(self.request(request)).await?.into_inner();
        let mut all = Vec::new();
        while let Some(part) = parts.message().await? {
            all.extend(part.instances);
        }
        Ok(all)
    }

    async fn watch(&self, service: &str, index: i64) -> Result<Streaming<WatchReply>, Status> {
        let request = WatchRequest { service: service.to_owned(), index };
        Ok(self.calls.clone().watch(self.request(request)).await?.into_inner())
    }
}

impl Beats {
    async fn say(&mut self, heartbeat: Heartbeat) -> Result<HeartbeatReply, Status> {
        // What has ended takes no more, and says why.
        let _ = self.heartbeats.send(heartbeat).await;
        let reply = timeout(SOON, self.replies.message()).await.expect("a reply or a status")?;
        reply.ok_or_else(|| Status::cancelled("the registry has ended the stream"))
    }
}

/// What comes next, but for signs of life.
async fn next(stream: &mut Streaming<WatchReply>) -> Result<WatchReply, Status> {
    loop {
        let reply = timeout(SOON, stream.message()).await.expect("a reply soon")?.expect("the stream goes on");
        if reply.index != 0 || reply.reset || !reply.changed.is_empty() || !reply.removed.is_empty() {
            return Ok(reply);
        }
    }
}

fn reason(status: &Status) -> String {
    tonic_types::StatusExt::get_details_error_info(status).map(|info| info.reason).unwrap_or_default()
}

/// For how long something is looked at that must not happen.
const A_WHILE: Duration = Duration::from_millis(300);
