//! One datagram after the other.
//!
//! Only the first question about a host name waits, for its first look-up, in a task of its own; of those there are few at a time,
//! and a question beyond is answered with what is known.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::UdpSocket, task::JoinSet, time::sleep};

use super::{Answer, Dns, hosts::looked_up, message::Transport};

/// Questions that wait for a look-up at the same time.
const WAITING_MAX: usize = 64;

/// A question is a header, a name of at most 255 bytes, and some options. What is longer is cut off, and then makes no
/// sense. In bytes.
const QUESTION_MAX_BYTES: usize = 4096;

/// A socket whose every call fails must not keep a core busy.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Answers each datagram before it reads the next one, but for those that wait for a look-up.
pub(super) async fn run(socket: Arc<UdpSocket>, dns: &Dns) -> Infallible {
    let mut buffer = [0; QUESTION_MAX_BYTES];
    // Ends them all when this is dropped.
    let mut waiting = JoinSet::new();
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "no datagram");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        while waiting.try_join_next().is_some() {}
        let question = &buffer[..length];
        match dns.answer_datagram(question, client.ip()) {
            Answer::Ready(answer) => send(&socket, client, answer).await,
            Answer::AfterLookUps(_) if waiting.len() >= WAITING_MAX => {
                send(&socket, client, dns.answer_from_memory(question, Transport::Udp)).await;
            }
            Answer::AfterLookUps(names) => {
                let socket = Arc::clone(&socket);
                let dns = dns.clone();
                let question = question.to_vec();
                waiting.spawn(async move {
                    looked_up(names).await;
                    send(&socket, client, dns.answer_from_memory(&question, Transport::Udp)).await;
                });
            }
        }
        // A flood keeps the socket readable for ever; others are to have their turn.
        tokio::task::consume_budget().await;
    }
}

async fn send(socket: &UdpSocket, client: SocketAddr, answer: Option<Vec<u8>>) {
    if let Some(answer) = answer
        && let Err(error) = socket.send_to(&answer, client).await
    {
        tracing::debug!(%client, %error, "answer not sent");
    }
}
