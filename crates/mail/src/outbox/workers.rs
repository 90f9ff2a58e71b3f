//! What works on the outbox while the service runs.
//!
//! | module | what it does |
//! |---|---|
//! | [`dispatcher`] | claims what is due, sends it, records how it ended |
//! | `transactions`, [`limiter`] | which deliveries go together; how much one domain gets |
//! | `attempt`, [`retry_schedule`] | one attempt; when the next one is due |
//! | [`userlist_sync`] | sends status changes (unsubscribed, bounced) to userlist |
//! | [`sweeper`] | deletes what is no longer kept |

pub(super) mod attempt;
pub mod dispatcher;
pub mod limiter;
pub mod retry_schedule;
pub mod sweeper;
mod transactions;
pub mod userlist_sync;
