//! What works on the outbox while the service runs.
//!
//! | module | what it does |
//! |---|---|
//! | [`dispatcher`] | claims what is due, sends it, records how it ended |
//! | [`limiter`] | how much one domain gets |
//! | [`retry_schedule`] | when the next attempt is due |
//! | [`userlist_sync`] | sends status changes (unsubscribed, bounced) to userlist |
//! | [`sweeper`] | deletes what is no longer kept |

pub mod dispatcher;
pub mod limiter;
pub mod retry_schedule;
pub mod sweeper;
pub mod userlist_sync;
