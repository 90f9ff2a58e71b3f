//! Registrations in etcd: written, kept alive, listed and watched.
//!
//! This is the only crate that knows etcd-client. Its rooms, from the ground up; each imports only those above it in
//! this table:
//!
//! | room | what it settles |
//! |---|---|
//! | `client` | [`Etcd`] and [`EtcdOptions`]: members, connections, log-in, attempts, errors; [`WriteHealth`] |
//! | `lease` | grant, keep alive, revoke |
//! | `keys` | registrations, overrides, settings, locks: reading and writing keys; [`Snapshot`] |
//! | `watch` | [`watch`](fn@watch): list, watch from the next revision, notice every gap, list again, for ever |
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use discovery::{Instance, InstanceKey, Ttl};
//! use discovery_etcd::{Etcd, EtcdOptions, WatchOptions, watch};
//! use futures::StreamExt;
//!
//! let etcd = Etcd::new(&EtcdOptions::at(["http://10.0.0.2:2379", "http://10.0.0.3:2379", "http://10.0.0.4:2379"]))?;
//!
//! // What a registry does for one instance:
//! let key: InstanceKey = "service/mail/10.0.0.5:7070".parse()?;
//! let instance: Instance = "10.0.0.5:7070".parse()?;
//! let registration = etcd.register(&key, &instance, Ttl::default()).await?;
//! etcd.keep_alive(registration.lease).await?;
//! etcd.deregister(&key, Some(registration.lease)).await?;
//!
//! // What a gateway does for ever:
//! let mut changes = watch(etcd, WatchOptions::default());
//! while let Some(change) = changes.next().await {
//!     println!("{:?} at revision {}", change.updates, change.revision);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! etcd-client would spread calls over all members by itself, and then about half of them hang when one member is
//! frozen. So every member has a client of its own here, and this crate chooses.

mod client;
mod keys;
mod lease;
mod watch;

pub use client::{
    error::{CallError, EtcdError},
    etcd::Etcd,
    failure::{Failure, FailureClass},
    options::{ConfigError, EtcdOptions},
    status::{EtcdStatus, MemberStatus},
    write_health::{PASSES_WITHIN, WriteHealth, WriteTrouble},
};
pub use keys::{
    claim::Claim,
    decode::Unreadable,
    foreign_keys::{ForeignKey, ForeignList},
    holder::Held,
    leave::Left,
    overrides::TakenBack,
    registration::Registration,
    settings::{Expected, Setting, Write},
    snapshot::Snapshot,
};
pub use watch::{
    Watch,
    change::{AccessKeyUpdate, Change, OverrideUpdate, PolicyUpdate, WatchOptions},
    health::{ResyncCause, WatchHealth, WatchState},
    settings_watch::SettingsChange,
    watch,
};
