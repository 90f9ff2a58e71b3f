//! How many questions a registry answers by name, and how long an answer takes.
//!
//! ```text
//! cargo run --release -p registry --example dns -- 127.0.0.1:8600 mail.service.muster 10
//! ```
//!
//! Asks for addresses and servers, over UDP and over TCP, from 32 clients that each wait for an answer before they ask
//! again, for so many seconds; prints a table.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::future::join_all;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

const CLIENTS: usize = 32;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let server: SocketAddr = arguments.next().unwrap_or_else(|| "127.0.0.1:8600".to_owned()).parse()?;
    let name = arguments.next().unwrap_or_else(|| "mail.service.muster".to_owned());
    let lasting = Duration::from_secs(arguments.next().map_or(Ok(5), |seconds| seconds.parse())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{:>9} {:>5} {:>12} {:>8} {:>8} {:>6}", "transport", "type", "questions/s", "p50", "p99", "lost");
    for kind in [RecordType::A, RecordType::SRV] {
        let question = question(&name, kind)?;
        let until = Instant::now() + lasting;
        let asked = join_all((0..CLIENTS).map(|_| over_udp(server, &question, until)));
        print("udp", kind, lasting, runtime.block_on(asked))?;
        let until = Instant::now() + lasting;
        let asked = join_all((0..CLIENTS).map(|_| over_tcp(server, &question, until)));
        print("tcp", kind, lasting, runtime.block_on(asked))?;
    }
    Ok(())
}

fn question(name: &str, kind: RecordType) -> Result<Vec<u8>, Failure> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(format!("{}.", name.trim_end_matches('.')))?, kind));
    Ok(message.to_vec()?)
}

/// The time that each answer took; `None` for one that did not come.
async fn over_udp(server: SocketAddr, question: &[u8], until: Instant) -> Result<Vec<Option<Duration>>, Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(server).await?;
    let mut answer = [0; 4096];
    let mut took = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        socket.send(question).await?;
        let received = timeout(Duration::from_secs(1), socket.recv(&mut answer)).await;
        took.push(received.is_ok().then(|| begun.elapsed()));
    }
    Ok(took)
}

async fn over_tcp(server: SocketAddr, question: &[u8], until: Instant) -> Result<Vec<Option<Duration>>, Failure> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let framed = [&u16::try_from(question.len())?.to_be_bytes()[..], question].concat();
    let mut took = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        stream.write_all(&framed).await?;
        let mut answer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut answer).await?;
        took.push(Some(begun.elapsed()));
    }
    Ok(took)
}

fn print(
    transport: &str,
    kind: RecordType,
    lasting: Duration,
    asked: Vec<Result<Vec<Option<Duration>>, Failure>>,
) -> Result<(), Failure> {
    let asked: Vec<Option<Duration>> = asked.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let mut took: Vec<Duration> = asked.iter().flatten().copied().collect();
    took.sort();
    let lost = asked.len() - took.len();
    let at = |share: usize| {
        took.get(took.len() * share / 100).map_or("-".to_owned(), |took| format!("{} us", took.as_micros()))
    };
    let rate = took.len() as f64 / lasting.as_secs_f64();
    println!("{transport:>9} {kind:>5} {rate:>12.0} {:>8} {:>8} {lost:>6}", at(50), at(99));
    Ok(())
}
