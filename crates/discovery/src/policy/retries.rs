use serde::{Deserialize, Serialize};

/// Trying again on another instance.
///
/// What may be tried again is not for choosing: a request of which nothing was sent; a safe one; one that is idempotent
/// and has no precondition, after its connection failed. Of the others only those whose service recognises a repetition
/// by its `Idempotency-Key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with retries")]
pub struct Retries {
    /// Most attempts for one request, the first included. 1 (none is tried again) to 10, default 3.
    pub attempts_max: u32,
    /// Attempts after the first, in percent of the requests. 0 to 100, default 20.
    pub budget_percent: u32,
    /// Where `Idempotency-Key` is honoured. Default `announced`.
    pub idempotency_key: IdempotencyKeys,
}

/// Whether a request with an `Idempotency-Key` that was sent may be sent again, after its connection failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdempotencyKeys {
    /// As the instances say when they register ([`HonouredKeys`](crate::HonouredKeys)), if all of them do.
    #[default]
    Announced,
    /// The service honours keys at every path, and all its instances know of each other's.
    Honoured,
    /// It does not, whatever the instances say.
    Ignored,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts_max: 3, budget_percent: 20, idempotency_key: IdempotencyKeys::default() }
    }
}
