//! Proof of address: the registry calls the announced address back, with a nonce, and is told who listens there; see
//! [`discovery::proof`].
//!
//! It is asked for once, when an instance is new or has moved; for as long as it lives, that it is registered is the
//! proof. Only addresses that the other rules have let pass are called, and those very IP addresses: a name is not
//! resolved again. No redirect is followed and no proxy asked. An answer is read up to 512 bytes and not shown. What
//! a registrar does learn is whether something answers at an address that it may announce anyway.
//!
//! A call takes at most [`DEADLINE`], and at most [`AT_ONCE_MAX`] are under way: further ones wait their turn within the
//! same time, then are asked to come again.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderValue, Request, StatusCode, header},
};
use discovery::{Address, Instance, InstanceKey, Scheme, deadlines, proof};
use futures::future::try_join_all;
use service_kit::{
    chain,
    client::{ClientError, HttpClient},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::denied::Denied;

/// How long all of it may take. A heartbeat waits for its answer for 1 s, and is to hear of the failure.
pub const DEADLINE: Duration = deadlines::ADDRESS_PROOF;

/// A call that would get less than this is not begun.
const ANSWER_MIN: Duration = Duration::from_millis(200);

/// How many calls are under way at the same time.
pub const AT_ONCE_MAX: usize = 64;

/// The most addresses that one name may stand for.
const ADDRESSES_MAX: usize = 8;

/// An answer has 64 bytes of nonce, and a key of at most 200.
const ANSWER_MAX_BYTES: usize = 512;

/// Calls back.
#[derive(Debug)]
pub struct Proof {
    http: HttpClient,
    places: Semaphore,
}

impl Default for Proof {
    fn default() -> Self {
        Self { http: HttpClient::plain(), places: Semaphore::new(AT_ONCE_MAX) }
    }
}

// === impl Proof ===

impl Proof {
    /// Whether `key` listens at every one of `ips`, which its address stands for.
    ///
    /// # Errors
    ///
    /// [`Denied::Unproven`], [`Denied::Busy`].
    pub async fn ask(&self, key: &InstanceKey, instance: &Instance, ips: &[IpAddr]) -> Result<(), Denied> {
        let denied = |reason: String| Denied::Unproven { address: instance.address.clone(), reason };
        if instance.scheme != Scheme::Http {
            let scheme = instance.scheme;
            return Err(denied(format!(
                "it speaks {scheme}, and only http can be asked; register it at another registry"
            )));
        }
        if ips.is_empty() || ips.len() > ADDRESSES_MAX {
            return Err(denied(format!("it stands for {} IP addresses; announce one", ips.len())));
        }
        let until = Instant::now() + DEADLINE;
        let place = timeout_at(until, self.places.acquire()).await.map_err(|_| Denied::Busy)?;
        let _place = place.expect("the semaphore is never closed");
        // After too long a wait, there would be no time left for the answer.
        if until.saturating_duration_since(Instant::now()) < ANSWER_MIN {
            return Err(Denied::Busy);
        }
        let calls = try_join_all(ips.iter().map(|ip| self.call(key, &instance.address, *ip)));
        match timeout_at(until, calls).await {
            Ok(answers) => answers.map(drop).map_err(denied),
            Err(_) => Err(denied(format!("nothing answered there within {} ms", DEADLINE.as_millis()))),
        }
    }

    /// Why not, in words.
    async fn call(&self, key: &InstanceKey, address: &Address, ip: IpAddr) -> Result<(), String> {
        let nonce = format!("{:032x}", rand::random::<u128>());
        let at = SocketAddr::new(ip, address.port.get());
        let request = Request::get(format!("http://{at}{}?{}={nonce}", proof::PATH, proof::NONCE))
            .header(header::HOST, HeaderValue::try_from(address.to_string()).map_err(|_| "it is no host")?)
            .header(header::CONNECTION, HeaderValue::from_static("close"))
            .body(Bytes::new())
            .map_err(|error| error.to_string())?;
        match self.http.send(request, DEADLINE, ANSWER_MAX_BYTES).await {
            Ok(answer) if answer.status == StatusCode::OK => {
                let is_proof = answer.body.trim_ascii() == proof::answer(&nonce, key).as_bytes();
                is_proof.then_some(()).ok_or_else(|| format!("{at} says that it is another instance; {}", wanted(key)))
            }
            Ok(answer) => Err(format!("{at} answered {}; {}", answer.status, wanted(key))),
            Err(ClientError::TimedOut(after)) => Err(format!("{at} did not answer within {} ms", after.as_millis())),
            Err(error) => Err(format!("{at} could not be asked: {}", chain(&error))),
        }
    }
}

/// What to change.
fn wanted(key: &InstanceKey) -> String {
    format!("GET {}?{}=N must answer 200 and \"N {key}\" there", proof::PATH, proof::NONCE)
}
