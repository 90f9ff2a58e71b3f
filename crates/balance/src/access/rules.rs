//! What a service asks for, made ready for requests: its policy, read once when it changes.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use discovery::{ServiceName, policy::Policy};

use crate::{
    access::{
        asked::Asked,
        auth_rules::AuthRules,
        issued::KnownKeys,
        jwt::key_set::KeySet,
        keys::{Found, KeyRing},
        limits::Limits,
        passed::Passed,
    },
    message::denial::Denial,
};

/// What a service asks for.
#[derive(Debug)]
pub(crate) struct Access {
    auth: Option<AuthRules>,
    limits: Option<Arc<Limits>>,
    /// Nothing is known of what it asks for.
    is_closed: bool,
}

// === impl Access ===

impl Access {
    /// That of `service` under `policy`; `None` when it asks for nothing. What it has learnt `before` stays, where it
    /// is still of use.
    pub(crate) fn of(
        service: &ServiceName,
        policy: &Policy,
        before: Option<&Self>,
        known: &KnownKeys<'_>,
    ) -> Option<Arc<Self>> {
        let limits = Limits::new(policy, before.and_then(|before| before.limits.as_deref()));
        let before = before.and_then(|before| before.auth.as_ref());
        let kept = Limits::claims(policy);
        let auth = policy.auth.as_ref().map(|auth| AuthRules::new(service, auth, &kept, before, known));
        let limits = (!limits.is_empty()).then(|| Arc::new(limits));
        (auth.is_some() || limits.is_some()).then(|| Arc::new(Self { auth, limits, is_closed: false }))
    }

    /// That of a service whose policy cannot be understood and was not before, if it may be about who may pass: then no
    /// request passes. Such a text comes from a newer version, or around the registry, which refuses it.
    pub(crate) fn of_mistaken(text: &str) -> Option<Arc<Self>> {
        let is_about_it = text.to_ascii_lowercase().contains("auth");
        is_about_it.then(|| Arc::new(Self { auth: None, limits: None, is_closed: true }))
    }

    /// Whether no request passes at all.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Judges a request whose head had come at `now`.
    ///
    /// # Errors
    ///
    /// Why it does not pass.
    pub(crate) fn check(&self, asked: &Asked<'_>, now: Instant) -> Result<Passed, Box<Denial>> {
        if self.is_closed {
            return Err(Box::new(Denial::unavailable("the policy that says who may use this service is invalid")));
        }
        let client = self.limits.as_ref().map(|limits| (Arc::clone(limits), asked.client_network()));
        if let Some((limits, client)) = &client {
            limits.take_before(asked, *client, now)?;
        }
        let passed = self.auth.as_ref().map(|auth| auth.check(asked)).transpose()?.unwrap_or_default();
        Ok(passed.limited(client))
    }

    /// Whether a client that these rules have let pass may go on, where the service's are `newest` and the keys are
    /// `keys` now. Rules that have changed are judged with the next request, which such a client is made to send.
    pub(crate) fn still_holds(
        &self,
        key: Option<[u8; 32]>,
        newest: Option<&Self>,
        keys: &KeyRing,
        now: SystemTime,
    ) -> bool {
        let (Some(auth), Some(newest)) = (&self.auth, newest) else { return true };
        let is_same = newest.auth.as_ref().is_none_or(|newest| newest.are(auth));
        let opens = |hash| matches!(keys.find_hash(hash, auth.service(), now), Found::Opens(_));
        !newest.is_closed && is_same && key.is_none_or(opens)
    }

    /// The keys of the tokens that it takes.
    pub(crate) fn key_set(&self) -> Option<&Arc<KeySet>> {
        Some(&self.auth.as_ref()?.issued.as_ref()?.key_set)
    }
}
