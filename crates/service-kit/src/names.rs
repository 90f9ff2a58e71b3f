//! Host names, resolved in the background.
//!
//! A request must not wait for a name server, and a name server's silence is not the fault of the one whose name it is.
//! So a user of a name [follows](Names::follow) it: from then on it is looked up again and again, one look-up at a
//! time however many wait for it, and readers take the [last answer](Name::answer) without waiting.
//!
//! | | |
//! |---|---|
//! | the next look-up | after the answer's time to live, held to [`TTL_MIN`] and [`TTL_MAX`]; after a failure, in 1, 2, 4, then every 5 s |
//! | a look-up takes | at most [`LOOKUP_MAX`] |
//! | while look-ups fail | the last good answer stays in use, for [`STALE_MAX`] at most (RFC 8767) |
//! | "there is no such name" | ends the last good answer when it has been said for [`DENIED_AFTER`]: a name server that has just started may not know all names |
//!
//! The operating system's getaddrinfo does none of this: it blocks a thread for each look-up, for 5 s and more if the
//! first name server is dead, and tells no time to live.

mod error;
mod name;
mod search;
mod server;
mod stub;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Semaphore};

pub use error::LookupError;
pub use name::{Answer, Name, Trouble, Unresolved};
pub use server::parse_name_server;
use stub::Stub;

/// The shortest time between two look-ups of a name, whatever its answer says: 1 s.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest time for which an answer is believed: 5 min.
pub const TTL_MAX: Duration = Duration::from_secs(300);
/// The longest time that one look-up may take, with all name servers and search domains: 3 s.
pub const LOOKUP_MAX: Duration = Duration::from_secs(3);
/// How long an answer is used while look-ups fail: a day, the least that RFC 8767 (section 5) recommends.
pub const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long name servers must say that there is no such name before that ends a good answer: 5 s.
pub const DENIED_AFTER: Duration = Duration::from_secs(5);

/// Look-ups at the same time; thousands of names may come at once.
const AT_ONCE_MAX: usize = 128;

/// The names that are followed. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Shared>);

/// What [`Names::state`] tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamesState {
    /// Names whose last look-up brought an address.
    pub resolved: usize,
    /// Names whose last look-up failed, and whose last good answer is used.
    pub stale: usize,
    /// Names without an address.
    pub unresolved: usize,
    /// Look-ups that brought an address.
    pub good: u64,
    /// Look-ups to which a name server said that there is no such name, or that it has no address.
    pub denied: u64,
    /// Look-ups that failed.
    pub failed: u64,
}

#[derive(Debug)]
struct Shared {
    stub: Stub,
    known: Mutex<HashMap<Box<str>, Weak<Name>>>,
    places: Semaphore,
    good: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            stub: Stub::default(),
            known: Mutex::default(),
            places: Semaphore::new(AT_ONCE_MAX),
            good: AtomicU64::default(),
            denied: AtomicU64::default(),
            failed: AtomicU64::default(),
        }
    }
}

// === impl Names ===

impl Names {
    /// Asks these name servers, in this order; those of the operating system (`/etc/resolv.conf`, read again when it
    /// changes) if there are none. `/etc/hosts` comes before both.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Shared { stub: Stub::new(servers), ..Shared::default() }))
    }

    /// The name, which is looked up from now on until the last holder has dropped it. The first follower must be on a
    /// tokio runtime, which then does the look-ups; elsewhere the name stays without an answer.
    #[must_use]
    pub fn follow(&self, host: &str) -> Arc<Name> {
        let mut known = self.0.lock();
        if let Some(name) = known.get(host).and_then(Weak::upgrade) {
            return name;
        }
        let (name, followed) = Name::new(host);
        known.insert(host.into(), Arc::downgrade(&name));
        if let Ok(runtime) = Handle::try_current() {
            let shared = Arc::clone(&self.0);
            let weak = Arc::downgrade(&name);
            runtime.spawn(async move {
                let host = followed.host().to_owned();
                followed.until_dropped(shared.look_up_again_and_again(&host, &weak)).await;
                shared.forget(&host);
            });
        }
        name
    }

    /// How many names are followed, by how they fare now, and how many look-ups there were.
    #[must_use]
    pub fn state(&self) -> NamesState {
        let answers: Vec<_> = self.0.lock().values().filter_map(Weak::upgrade).map(|name| name.answer()).collect();
        let [good, denied, failed] =
            [&self.0.good, &self.0.denied, &self.0.failed].map(|all| all.load(Ordering::Relaxed));
        let mut state = NamesState { good, denied, failed, ..NamesState::default() };
        for answer in answers {
            match (answer.addresses.is_empty(), &answer.trouble) {
                (true, _) => state.unresolved += 1,
                (false, Some(_)) => state.stale += 1,
                (false, None) => state.resolved += 1,
            }
        }
        state
    }
}

// === impl Shared ===

impl Shared {
    async fn look_up_again_and_again(&self, host: &str, name: &Weak<Name>) {
        loop {
            let found = match self.places.acquire().await {
                Ok(_place) => self.stub.look_up(host).await,
                // It is never closed.
                Err(_) => return,
            };
            let counter = match &found {
                Ok(_) => &self.good,
                Err(error) if error.is_denial() => &self.denied,
                Err(_) => &self.failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            let Some(name) = name.upgrade() else { return };
            let pause = name.learn(found);
            drop(name);
            tokio::time::sleep(pause).await;
        }
    }

    fn forget(&self, host: &str) {
        let mut known = self.lock();
        // It may be followed anew already.
        if known.get(host).is_some_and(|name| name.strong_count() == 0) {
            known.remove(host);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Weak<Name>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
