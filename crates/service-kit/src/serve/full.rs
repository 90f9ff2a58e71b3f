//! What a client is told that has all the connections it may have, each with a request under way.

use std::{sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Semaphore, time::timeout};

use super::linger::linger;
use crate::Problem;

/// Clients that are told at the same time; the connections of others are just closed.
const TOLD_MAX: usize = 64;

/// How long telling takes at most.
const TELL_MAX: Duration = Duration::from_secs(2);

/// When to ask again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Tells clients, some at a time.
#[derive(Debug, Clone)]
pub(super) struct Teller(Arc<Semaphore>);

impl Default for Teller {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOLD_MAX)))
    }
}

impl Teller {
    /// Answers 503 and closes the connection.
    pub(super) fn tell(&self, mut stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let tell = async {
                if stream.write_all(words().as_bytes()).await.is_ok() {
                    linger(&mut stream).await;
                }
            };
            let _best_effort = timeout(TELL_MAX, tell).await;
            drop(permit);
        });
    }
}

fn words() -> String {
    let detail = "you have as many connections as one client may have, all with a request under way; wait for answers";
    let json = Problem::unavailable("overloaded", detail, RETRY_AFTER).to_json();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: {}\r\nContent-Length: {}\r\nRetry-After: {}\r\n\
         Connection: close\r\n\r\n{json}",
        crate::problem::MEDIA_TYPE,
        json.len(),
        RETRY_AFTER.as_secs(),
    )
}
