//! The tokens that a service takes: its issuer's keys, its rules, and what was good a moment ago.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use discovery::policy::Jwt;

use crate::{
    access::{
        identity::Identity,
        jwt::{
            claims::{self, Judged},
            key_set::{KeySet, SavedKeySet, Source},
            token::{self, Outcome},
            verified::Verified,
        },
        refusals::Refusals,
    },
    clock::{Clock, Moment},
    message::denial::Denial,
};

/// How long a request waits for the issuer's newest keys.
const KEYS_WAIT_MAX: Duration = Duration::from_secs(3);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Issued {
    rules: Jwt,
    /// The claims that are wanted later.
    kept: Vec<Arc<str>>,
    pub(crate) key_set: Arc<KeySet>,
    verified: Verified,
}

/// What is known of the keys of all issuers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownKeys<'a> {
    /// What an earlier run had read, by the URL.
    pub(crate) saved: &'a BTreeMap<String, SavedKeySet>,
    /// Grows when something has changed that is worth saving.
    pub(crate) changes: &'a Arc<AtomicU64>,
}

/// What a token is.
#[derive(Debug)]
pub(crate) enum Checked {
    Good(Arc<Identity>),
    OutOfScope,
    Invalid(&'static str),
    /// Its key is not in the set; a newer set may have it.
    UnknownKey,
    /// There are no keys.
    NoKeys,
}

// === impl Issued ===

impl Issued {
    /// Those of `rules`. The keys of the policy `before` stay when they come from the same place; `saved` is what an
    /// earlier run had.
    pub(crate) fn new(rules: &Jwt, kept: Vec<Arc<str>>, before: Option<&Self>, known: &KnownKeys<'_>) -> Self {
        let source = match (&rules.jwks_url, &rules.jwks_file) {
            (Some(url), _) => Source::Url(url.clone()),
            (None, file) => Source::File(file.clone().unwrap_or_default()),
        };
        let same = before.map(|before| &before.key_set).filter(|set| set.source == source).cloned();
        let saved = known.saved.get(&source.to_string());
        let made = || Arc::new(KeySet::new(source.clone(), saved, Arc::clone(known.changes)));
        Self { rules: rules.clone(), kept, key_set: same.unwrap_or_else(made), verified: Verified::default() }
    }

    /// Judges a token by the keys that are there at `now`.
    pub(crate) fn check(&self, token: &[u8], now: SystemTime) -> Checked {
        let Some(keys) = self.key_set.keys(now) else { return Checked::NoKeys };
        if token.len() <= token::TOKEN_MAX_BYTES
            && let Some(identity) = self.verified.get(token, &keys, now)
        {
            return Checked::Good(identity);
        }
        let claims = match token::verify(token, &keys) {
            Outcome::Signed(claims) => claims,
            Outcome::UnknownKey => return Checked::UnknownKey,
            Outcome::Invalid(why) => return Checked::Invalid(why),
        };
        match claims::judge(&claims, &self.rules, &self.kept, now) {
            Judged::Good(identity, until) => {
                let identity = Arc::new(identity);
                self.verified.put(token, Arc::clone(&identity), until, keys, now);
                Checked::Good(identity)
            }
            Judged::OutOfScope => Checked::OutOfScope,
            Judged::Invalid(why) => Checked::Invalid(why),
        }
    }

    /// What the client gets for it when no newer keys can be waited for.
    pub(crate) fn judged(&self, checked: Checked, refusals: &Refusals) -> Result<Arc<Identity>, Box<Denial>> {
        match checked {
            Checked::Good(identity) => Ok(identity),
            Checked::OutOfScope => {
                let scopes = self.rules.scopes.join(" ");
                Err(refusals.out_of_scope("the token lacks a scope that this service needs", &scopes))
            }
            Checked::Invalid(why) => Err(refusals.invalid(why)),
            Checked::UnknownKey => Err(refusals.invalid("the token's key is none of its issuer's")),
            Checked::NoKeys => Err(Box::new(Denial::unavailable(
                "the keys of the token's issuer are not known, or too old; come again",
            ))),
        }
    }

    /// The same with newer keys, if there may be any.
    pub(crate) async fn check_again(&self, token: &[u8], clock: &Clock) -> Checked {
        let now = Moment { instant: clock.read(), wall: clock.wall() };
        self.key_set.renewed(KEYS_WAIT_MAX, now).await;
        self.check(token, clock.wall())
    }
}
