//! One datagram after the other.

use std::{convert::Infallible, time::Duration};

use tokio::{net::UdpSocket, time::sleep};

use super::Dns;

/// A question is a header, a name of at most 255 bytes, and some options. What is longer is cut off, and then makes no
/// sense. In bytes.
const QUESTION_MAX_BYTES: usize = 4096;

/// A socket whose every call fails must not keep a core busy.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Answers each datagram before it reads the next one.
pub(super) async fn run(socket: &UdpSocket, dns: &Dns) -> Infallible {
    let mut buffer = [0; QUESTION_MAX_BYTES];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "no datagram");
                sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let answer = dns.answer_datagram(&buffer[..length], client.ip());
        if let Some(answer) = answer
            && let Err(error) = socket.send_to(&answer, client).await
        {
            tracing::debug!(%client, %error, "answer not sent");
        }
        // A flood keeps the socket readable for ever; others are to have their turn.
        tokio::task::consume_budget().await;
    }
}
