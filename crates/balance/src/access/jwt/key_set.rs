//! The keys of a policy, from a file or a URL, and when they are read again.
//!
//! Requests only read what is there. One task ([`fetch`](crate::access::key_fetcher)) reads files and asks URLs: at
//! first, every five minutes, and when a token names a key that is not in the set, for that at most once a minute, so
//! that a client with invented key ids causes no request of its own. A set that was good stays in force while no newer
//! one can be had, for a week at most: an issuer that takes a stolen key out of its set must be heard some day. It is
//! in the gateway's snapshot, so that a restart needs no identity provider.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::Notify;

use crate::{
    access::jwt::{json, key::Key},
    clock::Moment,
};

/// The largest set, in bytes.
pub(crate) const SET_MAX_BYTES: usize = 256 * 1024;
/// Most keys of a set.
const KEYS_MAX: usize = 256;

/// Keys of a set with the same id: one too many is what a rotation may leave, more are tried in vain.
const SAME_ID_MAX: usize = 8;

/// How long a set stays in force that cannot be read again.
const AGE_MAX: Duration = Duration::from_secs(7 * 86_400);
/// By how much the age of a set in the snapshot may be behind.
const SAVED_INTERVAL: Duration = Duration::from_secs(3600);

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

/// What an issuer has said its keys are, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SavedKeySet {
    pub(crate) text: String,
    /// In seconds since 1970.
    pub(crate) read_s: Option<u64>,
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

#[derive(Default)]
struct State {
    keys: Option<Arc<Keys>>,
    /// What the keys were read from.
    text: Arc<str>,
    attempted: Option<Instant>,
    /// When it was last read well. Unknown of one that an earlier version has saved: from the first attempt on.
    read: Option<SystemTime>,
    /// The newest of these times that was worth saving.
    worth_saving: Option<SystemTime>,
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

    /// The keys that a token names; several may have the same id (RFC 7517, section 4.5). A token that names none means
    /// the only key of a set of one.
    pub(crate) fn named(&self, id: Option<&str>) -> impl Iterator<Item = &Key> {
        let is_only = self.all.len() == 1;
        let is_named = move |key: &&Key| match id {
            Some(id) => key.id.as_deref() == Some(id),
            None => is_only,
        };
        self.all.iter().filter(is_named).take(SAME_ID_MAX)
    }
}

// === impl KeySet ===

impl KeySet {
    /// That of `source`, which starts with what an earlier run had read there.
    pub(crate) fn new(source: Source, before: Option<&SavedKeySet>, changes: Arc<AtomicU64>) -> Self {
        let keys = before.and_then(|before| Keys::read(before.text.as_bytes()).ok()).map(Arc::new);
        let before = before.filter(|_| keys.is_some());
        let text = before.map(|before| before.text.as_str()).unwrap_or_default().into();
        let read = before.and_then(|before| before.read_at());
        let state = ArcSwap::from_pointee(State { keys, text, read, worth_saving: read, ..State::default() });
        Self { source, state, is_wanted: AtomicBool::new(false), changed: Notify::new(), changes }
    }

    /// The keys in force at `now`; `None` when there never were any, or they are too old.
    pub(crate) fn keys(&self, now: SystemTime) -> Option<Arc<Keys>> {
        let state = self.state.load();
        state.keys.clone().filter(|_| state.age(now).is_none_or(|age| age < AGE_MAX))
    }

    /// What a person asks about it: how many keys, since when they are known, and why there are no newer ones.
    pub(crate) fn explain(&self, now: SystemTime) -> Value {
        let state = self.state.load();
        serde_json::json!({
            "source": self.source.to_string(),
            "keys": state.keys.as_ref().map_or(0, |keys| keys.all.len()),
            "read_ago_s": state.age(now).map(|age| age.as_secs()),
            "is_in_force": self.keys(now).is_some(),
            "failure": state.failure,
        })
    }

    /// What to save of it: what a URL has said last.
    pub(crate) fn saved(&self) -> Option<(String, SavedKeySet)> {
        let Source::Url(url) = &self.source else { return None };
        let state = self.state.load();
        let read_s = state.read.and_then(|read| read.duration_since(SystemTime::UNIX_EPOCH).ok());
        let saved = SavedKeySet { text: state.text.to_string(), read_s: read_s.map(|since| since.as_secs()) };
        Some((url.clone(), saved)).filter(|(_, saved)| !saved.text.is_empty())
    }

    /// Waits, for `limit` at most, until the set has been read again for a key that is not in it; at once when that was
    /// tried a moment ago, as seen from `now`.
    pub(crate) async fn renewed(&self, limit: Duration, now: Moment) {
        let changed = self.changed.notified();
        let mut changed = std::pin::pin!(changed);
        // From now on a change is not missed.
        changed.as_mut().enable();
        let state = self.state.load_full();
        let since = |at: Instant| now.instant.saturating_duration_since(at);
        let was_just_tried = state.attempted.is_some_and(|at| since(at) < UNKNOWN_KEY_INTERVAL);
        if was_just_tried && self.keys(now.wall).is_some() {
            return;
        }
        self.is_wanted.store(true, Ordering::Relaxed);
        // What has not come by then is judged by what is there.
        let _late = tokio::time::timeout(limit, changed).await;
    }

    /// Whether it is time to read it.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        let state = self.state.load();
        let Some(attempted) = state.attempted else { return true };
        let interval = match (&self.source, &state.failure) {
            (Source::File(_), None) => FILE_INTERVAL,
            // The clock was set forward by more than a set may be old.
            (Source::Url(_), None) if self.keys(now.wall).is_none() => RETRY_INTERVAL,
            (Source::Url(_), None) if self.is_wanted.load(Ordering::Relaxed) => UNKNOWN_KEY_INTERVAL,
            (Source::Url(_), None) => URL_INTERVAL,
            (_, Some(_)) => RETRY_INTERVAL,
        };
        now.instant.saturating_duration_since(attempted) >= interval
    }

    /// Takes in what the source has said.
    pub(crate) fn take(&self, answer: Result<Vec<u8>, String>, now: Moment) {
        self.is_wanted.store(false, Ordering::Relaxed);
        let before = self.state.load_full();
        let read = answer.and_then(|bytes| {
            if bytes == before.text.as_bytes() && before.keys.is_some() {
                return Ok(None);
            }
            let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            Keys::read(text.as_bytes()).map(|keys| Some((Arc::new(keys), text)))
        });
        let mut state = State { attempted: Some(now.instant), failure: None, ..before.same() };
        match read {
            Ok(None) => state.read = Some(now.wall),
            Ok(Some((keys, text))) => {
                tracing::info!(target: LOG_TARGET, source = %self.source, keys = keys.all.len(), "read the keys of token issuers");
                state =
                    State { keys: Some(keys), text: text.into(), read: Some(now.wall), worth_saving: None, ..state };
            }
            Err(why) => {
                if before.failure.as_ref() != Some(&why) {
                    tracing::warn!(
                        target: LOG_TARGET, source = %self.source, error = why, is_known = before.keys.is_some(),
                        "cannot read the keys of token issuers",
                    );
                }
                // Not later than now, where the clock was ahead when it was read: it would not grow older until then.
                state.read = before.keys.as_ref().map(|_| before.read.map_or(now.wall, |read| read.min(now.wall)));
                state.failure = Some(why);
            }
        }
        if state.is_worth_saving() {
            state.worth_saving = state.read;
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        self.state.store(Arc::new(state));
        self.changed.notify_waiters();
    }
}

// === impl State ===

impl State {
    fn same(&self) -> Self {
        Self {
            keys: self.keys.clone(),
            text: Arc::clone(&self.text),
            attempted: self.attempted,
            read: self.read,
            worth_saving: self.worth_saving,
            failure: self.failure.clone(),
        }
    }

    /// How old the set is; `None` when that is not known.
    fn age(&self, now: SystemTime) -> Option<Duration> {
        self.read.map(|read| now.duration_since(read).unwrap_or_default())
    }

    /// Whether it says something that the snapshot does not, or is much younger than it is there, or older.
    fn is_worth_saving(&self) -> bool {
        // One that is older than the snapshot says is news, too: the clock was set back.
        let differs =
            |read: SystemTime, saved| read.duration_since(saved).map_or(true, |newer| newer >= SAVED_INTERVAL);
        self.read.is_some_and(|read| self.worth_saving.is_none_or(|saved| differs(read, saved)))
    }
}

impl std::fmt::Debug for State {
    /// Without the text: a file may hold secrets (`oct`).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { keys, attempted, read, failure, .. } = self;
        let mut shown = f.debug_struct("State");
        shown.field("keys", keys).field("attempted", attempted).field("read", read).field("failure", failure);
        shown.finish_non_exhaustive()
    }
}

// === impl SavedKeySet ===

impl SavedKeySet {
    fn read_at(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.read_s?))
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
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    const SET: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn set(before: Option<&SavedKeySet>) -> KeySet {
        KeySet::new(Source::Url("https://id.example/keys".to_owned()), before, Arc::default())
    }

    /// So many seconds after the first of them.
    fn at(secs: u64) -> Moment {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        let after = Duration::from_secs(secs);
        Moment { instant: *START + after, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + after }
    }

    fn has(keys: &KeySet, id: Option<&str>, now: Moment) -> bool {
        keys.keys(now.wall).is_some_and(|keys| keys.named(id).next().is_some())
    }

    #[test]
    fn a_good_set_stays_in_force_until_there_is_a_newer_one_and_is_saved() {
        let (keys, now) = (set(None), at(0));
        assert!(keys.is_due(now) && keys.keys(now.wall).is_none() && keys.saved().is_none());
        keys.take(Ok(SET.into()), now);
        for broken in [Err("away".to_owned()), Ok(b"{}".to_vec()), Ok(b"{\"keys\":[]}".to_vec()), Ok(vec![255])] {
            keys.take(broken, now);
            assert!(has(&keys, Some("a"), now));
        }
        let (_, saved) = keys.saved().unwrap();
        let restored = set(Some(&saved));
        assert!(has(&restored, None, now), "the only key needs no name");
        assert!(restored.is_due(now), "and is asked for anew");
    }

    #[test]
    fn a_set_that_cannot_be_read_again_ends_after_a_week_also_over_a_restart() {
        const WEEK: u64 = 7 * 86_400;
        let keys = set(None);
        keys.take(Ok(SET.into()), at(0));
        keys.take(Err("away".to_owned()), at(WEEK - 1));
        assert!(has(&keys, None, at(WEEK - 1)) && !has(&keys, None, at(WEEK)));
        let explained = keys.explain(at(WEEK).wall);
        assert_eq!((&explained["read_ago_s"], &explained["is_in_force"]), (&WEEK.into(), &false.into()));
        let restored = set(Some(&keys.saved().unwrap().1));
        assert!(has(&restored, None, at(WEEK - 1)) && !has(&restored, None, at(WEEK)));
        // The same words again are as good as new ones.
        restored.take(Ok(SET.into()), at(WEEK));
        assert!(has(&restored, None, at(2 * WEEK - 1)));
        // One that an earlier version has saved has a week from the first attempt on.
        let old = set(Some(&SavedKeySet { text: SET.to_owned(), read_s: None }));
        assert!(has(&old, None, at(0)));
        old.take(Err("away".to_owned()), at(5));
        assert!(has(&old, None, at(WEEK + 4)) && !has(&old, None, at(WEEK + 5)));
    }

    #[test]
    fn the_age_in_the_snapshot_is_never_much_behind() {
        let changes = Arc::new(AtomicU64::new(0));
        let keys = KeySet::new(Source::Url("https://id.example/keys".to_owned()), None, Arc::clone(&changes));
        for minute in 0..=180 {
            keys.take(Ok(SET.into()), at(60 * minute));
        }
        assert_eq!(changes.load(Ordering::Relaxed), 4, "at first and every hour");
    }

    #[test]
    fn a_set_that_was_read_under_a_clock_that_was_ahead_grows_old_from_now_on_also_over_a_restart() {
        const WEEK: u64 = 7 * 86_400;
        let changes = Arc::new(AtomicU64::new(0));
        let keys = KeySet::new(Source::Url("https://id.example/keys".to_owned()), None, Arc::clone(&changes));
        keys.take(Ok(SET.into()), at(100 * WEEK));
        let restored = set(Some(&keys.saved().unwrap().1));
        restored.take(Err("away".to_owned()), at(5));
        assert!(has(&restored, None, at(WEEK + 4)) && !has(&restored, None, at(WEEK + 5)));
        keys.take(Ok(SET.into()), at(5));
        assert_eq!(changes.load(Ordering::Relaxed), 2, "that it is older is worth saving");
    }

    #[test]
    fn a_set_that_is_too_old_all_at_once_is_read_again_at_once() {
        let keys = set(None);
        keys.take(Ok(SET.into()), at(0));
        let set_forward = Moment { wall: at(8 * 86_400).wall, ..at(10) };
        assert!(!has(&keys, None, set_forward) && keys.is_due(set_forward) && !keys.is_due(at(10)));
    }

    #[test]
    fn no_secret_of_a_file_is_in_what_is_logged() {
        let secret = URL_SAFE_NO_PAD.encode([7; 32]);
        let set = KeySet::new(Source::File("/jwks".to_owned()), None, Arc::default());
        set.take(Ok(format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{secret}"}}]}}"#).into()), at(0));
        let shown = format!("{set:?} {:?}", set.keys(at(0).wall));
        assert!(shown.contains("HS256") && !shown.contains(&secret) && !shown.contains("7, 7"), "{shown}");
    }

    #[test]
    fn a_key_that_is_not_in_the_set_has_it_read_again_once_a_minute() {
        let keys = set(None);
        keys.take(Ok(SET.into()), at(0));
        let is_due = |secs| keys.is_due(at(secs));
        assert!(!is_due(59) && !is_due(299) && is_due(300));
        keys.is_wanted.store(true, Ordering::Relaxed);
        assert!(!is_due(59) && is_due(60));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_key_goes_on_when_the_set_is_read_or_at_once_when_it_just_was() {
        let keys = Arc::new(set(None));
        let waiting = tokio::spawn({
            let keys = Arc::clone(&keys);
            async move { keys.renewed(Duration::from_secs(3600), at(0)).await }
        });
        tokio::task::yield_now().await;
        keys.take(Ok(SET.into()), at(1));
        waiting.await.unwrap();
        keys.renewed(Duration::from_secs(3600), at(2)).await;
    }
}
