//! One connection that sends heartbeats, over HTTP/1.1 or over gRPC.

use muster_proto::v1::{Heartbeat, HeartbeatReply, Instance, registry_client::RegistryClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// The TTL is long, so that a machine that cannot keep up still measures heartbeats and not expiry.
const TTL_MS: u64 = 600_000;

pub(crate) enum Sender {
    /// A request for each heartbeat.
    Http(TcpStream),
    /// A message for each heartbeat, on one stream.
    Rpc { port: u16, heartbeats: mpsc::Sender<Heartbeat>, replies: Box<Streaming<HeartbeatReply>> },
}

impl Sender {
    pub(crate) async fn connect(port: u16, over_grpc: bool) -> Self {
        if !over_grpc {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the registry listens");
            stream.set_nodelay(true).expect("a TCP socket");
            return Self::Http(stream);
        }
        let url = format!("http://127.0.0.1:{port}");
        let mut calls = RegistryClient::connect(url).await.expect("the registry listens");
        let (heartbeats, received) = mpsc::channel(1);
        let replies = calls.register(ReceiverStream::new(received)).await.expect("a stream");
        Self::Rpc { port, heartbeats, replies: Box::new(replies.into_inner()) }
    }

    /// One heartbeat; whether it was taken.
    pub(crate) async fn exchange(&mut self, instance: usize) -> bool {
        let address = address(instance);
        let service = format!("s{}", instance % 100);
        match self {
            Self::Http(stream) => {
                let body = format!(r#"{{"address":"{address}","ttl_ms":{TTL_MS}}}"#);
                let path = format!("/v1/services/{service}/instances/i{instance}");
                request(stream, &path, &body).await
            }
            Self::Rpc { port, heartbeats, replies } => {
                let heartbeat = Heartbeat {
                    service,
                    id: format!("i{instance}"),
                    instance: Some(Instance { address, ..Instance::default() }),
                    ttl_ms: TTL_MS,
                    incarnation: String::new(),
                };
                let is_taken =
                    heartbeats.send(heartbeat).await.is_ok() && matches!(replies.message().await, Ok(Some(_)));
                if !is_taken {
                    // The first refusal is the end of a stream.
                    *self = Self::connect(*port, true).await;
                }
                is_taken
            }
        }
    }
}

fn address(instance: usize) -> String {
    let high = instance / 250;
    let low = instance % 250 + 1;
    format!("10.{}.{}.{low}:7070", high / 250, high % 250)
}

async fn request(stream: &mut TcpStream, path: &str, body: &str) -> bool {
    let head = format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.expect("the registry is there");
    let mut answer = Vec::with_capacity(512);
    loop {
        let mut part = [0; 512];
        let count = stream.read(&mut part).await.expect("the registry is there");
        answer.extend_from_slice(&part[..count]);
        // Every answer to a heartbeat is one JSON object, and so ends.
        if count == 0 || (answer.ends_with(b"}") && answer.windows(4).any(|four| four == b"\r\n\r\n")) {
            return answer.starts_with(b"HTTP/1.1 200");
        }
    }
}
