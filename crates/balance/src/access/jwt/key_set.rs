//! The keys of a policy, from a file or a URL, and when they are read again.
//!
//! Requests only read what is there. One task ([`fetch`](crate::access::key_fetcher)) reads files and asks URLs: at
//! first, every five minutes, and when a token names a key that is not in the set, for that at most once a minute, so
//! that a client with invented key ids causes no request of its own. A set that was good stays in force while no newer
//! one can be had; it is in the gateway's snapshot, so that a restart needs no identity provider.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::Notify;

use crate::access::jwt::{json, key::Key};

/// The largest set, in bytes.
pub(crate) const SET_MAX_BYTES: usize = 256 * 1024;
/// Most keys of a set.
const KEYS_MAX: usize = 256;

/// How often a URL is asked, and a file is read.
const URL_INTERVAL: Duration = Duration::from_secs(300);
const FILE_INTERVAL: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// For a key that is not in the set.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(60);

/// Where the keys of a policy come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    File(String),
    Url(String),
}

/// The keys that are in force.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    all: Vec<Key>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct KeySet {
    pub(crate) source: Source,
    state: ArcSwap<State>,
    is_wanted: AtomicBool,
    changed: Notify,
    /// Grows whenever a set has changed that is worth saving.
    changes: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Arc<Keys>>,
    /// What the keys were read from.
    text: Arc<str>,
    attempted: Option<Instant>,
    /// When it was last read well.
    read: Option<Instant>,
    /// Why it could not be read last.
    failure: Option<String>,
}

// === impl Keys ===

impl Keys {
    /// Reads a JSON Web Key Set (RFC 7517, section 5). Keys that cannot be used are left out.
    ///
    /// # Errors
    ///
    /// It is none, or has no key that can be used.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let set = json::object(text).ok_or("it is no JSON object, or has a member twice")?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("it has no list of keys")?;
        let all: Vec<Key> = keys.iter().filter_map(|key| Key::read(key.as_object()?)).take(KEYS_MAX).collect();
        if all.is_empty() {
            return Err(format!("none of its {} keys can verify a signature", keys.len()));
        }
        Ok(Self { all })
    }

    /// The key that a token names. One that names none means the only key of a set of one.
    pub(crate) fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, self.all.as_slice()) {
            (Some(id), all) => all.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

// === impl KeySet ===

impl KeySet {
    /// That of `source`, which starts with what an earlier run had read there.
    pub(crate) fn new(source: Source, before: Option<&str>, changes: Arc<AtomicU64>) -> Self {
        let keys = before.and_then(|text| Keys::read(text.as_bytes()).ok()).map(Arc::new);
        let text = before.filter(|_| keys.is_some()).unwrap_or_default().into();
        let state = ArcSwap::from_pointee(State { keys, text, ..State::default() });
        Self { source, state, is_wanted: AtomicBool::new(false), changed: Notify::new(), changes }
    }

    /// The keys in force; `None` when there never were any.
    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        self.state.load().keys.clone()
    }

    /// What to save of it: what a URL has said last.
    pub(crate) fn saved(&self) -> Option<(String, String)> {
        match &self.source {
            Source::Url(url) => {
                Some((url.clone(), self.state.load().text.to_string())).filter(|(_, text)| !text.is_empty())
            }
            Source::File(_) => None,
        }
    }

    /// Waits, for `limit` at most, until the set has been read again for a key that is not in it; at once when that was
    /// tried a moment ago.
    pub(crate) async fn renewed(&self, limit: Duration) {
        let changed = self.changed.notified();
        let mut changed = std::pin::pin!(changed);
        // From now on a change is not missed.
        changed.as_mut().enable();
        let state = self.state.load_full();
        let was_just_tried = state.attempted.is_some_and(|at| at.elapsed() < UNKNOWN_KEY_INTERVAL);
        if was_just_tried && state.keys.is_some() {
            return;
        }
        self.is_wanted.store(true, Ordering::Relaxed);
        // What has not come by then is judged by what is there.
        let _late = tokio::time::timeout(limit, changed).await;
    }

    /// Whether it is time to read it.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let state = self.state.load();
        let Some(attempted) = state.attempted else { return true };
        let interval = match (&self.source, &state.failure) {
            (Source::File(_), None) => FILE_INTERVAL,
            (Source::Url(_), None) if self.is_wanted.load(Ordering::Relaxed) => UNKNOWN_KEY_INTERVAL,
            (Source::Url(_), None) => URL_INTERVAL,
            (_, Some(_)) => RETRY_INTERVAL,
        };
        now.saturating_duration_since(attempted) >= interval
    }

    /// Takes in what the source has said.
    pub(crate) fn take(&self, answer: Result<Vec<u8>, String>, now: Instant) {
        self.is_wanted.store(false, Ordering::Relaxed);
        let before = self.state.load_full();
        let read = answer.and_then(|bytes| {
            if bytes == before.text.as_bytes() && before.keys.is_some() {
                return Ok(None);
            }
            let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            Keys::read(text.as_bytes()).map(|keys| Some((Arc::new(keys), text)))
        });
        let same = || (before.keys.clone(), Arc::clone(&before.text));
        let (attempted, state) = (Some(now), |(keys, text), read, failure| (keys, text, read, failure));
        let (keys, text, read, failure) = match read {
            Ok(None) => state(same(), Some(now), None),
            Ok(Some((keys, text))) => {
                tracing::info!(target: LOG_TARGET, source = %self.source, keys = keys.all.len(), "read the keys of token issuers");
                self.changes.fetch_add(1, Ordering::Relaxed);
                state((Some(keys), text.into()), Some(now), None)
            }
            Err(why) => {
                if before.failure.as_ref() != Some(&why) {
                    tracing::warn!(
                        target: LOG_TARGET, source = %self.source, error = why, is_known = before.keys.is_some(),
                        "cannot read the keys of token issuers",
                    );
                }
                state(same(), before.read, Some(why))
            }
        };
        self.state.store(Arc::new(State { keys, text, attempted, read, failure }));
        self.changed.notify_waiters();
    }
}

const LOG_TARGET: &str = "balance::access";

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(place) | Self::Url(place) => f.write_str(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn set(before: Option<&str>) -> KeySet {
        KeySet::new(Source::Url("https://id.example/keys".to_owned()), before, Arc::default())
    }

    #[test]
    fn a_good_set_stays_in_force_until_there_is_a_newer_one_and_is_saved() {
        let (keys, now) = (set(None), Instant::now());
        assert!(keys.is_due(now) && keys.keys().is_none() && keys.saved().is_none());
        keys.take(Ok(SET.into()), now);
        for broken in [Err("away".to_owned()), Ok(b"{}".to_vec()), Ok(b"{\"keys\":[]}".to_vec()), Ok(vec![255])] {
            keys.take(broken, now);
            assert!(keys.keys().unwrap().find(Some("a")).is_some());
        }
        let (_, text) = keys.saved().unwrap();
        let restored = set(Some(&text));
        assert!(restored.keys().unwrap().find(None).is_some(), "the only key needs no name");
        assert!(restored.is_due(now), "and is asked for anew");
    }

    #[test]
    fn a_key_that_is_not_in_the_set_has_it_read_again_once_a_minute() {
        let (keys, start) = (set(None), Instant::now());
        keys.take(Ok(SET.into()), start);
        let is_due = |secs| keys.is_due(start + Duration::from_secs(secs));
        assert!(!is_due(59) && !is_due(299) && is_due(300));
        keys.is_wanted.store(true, Ordering::Relaxed);
        assert!(!is_due(59) && is_due(60));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_key_goes_on_when_the_set_is_read_or_at_once_when_it_just_was() {
        let keys = Arc::new(set(None));
        let waiting = tokio::spawn({
            let keys = Arc::clone(&keys);
            async move { keys.renewed(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        keys.take(Ok(SET.into()), Instant::now());
        waiting.await.unwrap();
        keys.renewed(Duration::from_secs(3600)).await;
    }
}
