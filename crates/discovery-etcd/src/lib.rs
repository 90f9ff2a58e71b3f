//! The suite's memory: registrations in etcd, written, kept alive, listed and watched.
//!
//! This is the only crate that knows etcd-client. In the order in which a registration lives:
//!
//! | room | what it settles |
//! |---|---|
//! | [`EtcdOptions`] | where etcd is, and how to prove who we are |
//! | `access`, `login` | certificates and passwords, read again when they are refused; one log-in for all |
//! | `member`, `roster` | one connection per etcd member; which member to ask, and which to leave alone for a while |
//! | `call` | one attempt on one member, then the next, within one deadline |
//! | `registration`, `lease` | grant and put, change, revoke; writes that may be repeated without harm |
//! | `claim` | the same, if the key is still as somebody has seen it: how registries agree without a leader |
//! | `views` | the same instance in other systems' words, under the same lease |
//! | `foreign` | registrations that somebody else has written, and their copies |
//! | `election` | a key that one process holds: one of many does a job |
//! | `keep_alive` | thousands of leases over one stream |
//! | `snapshot` | everything, at one revision |
//! | [`WriteHealth`] | whether writes succeed, which no watch tells |
//! | [`watch`](fn@watch) | list, watch from the next revision, notice every gap, list again, for ever |
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

mod access;
mod call;
mod cas;
mod claim;
mod decode;
mod election;
mod error;
mod failure;
mod foreign;
mod holder;
mod keep_alive;
mod lane;
mod lease;
mod login;
mod member;
mod mirror;
mod options;
mod overrides;
mod pulse;
mod reconcile;
mod registration;
mod roster;
mod settings;
mod settings_watch;
mod snapshot;
mod status;
mod views;
mod watch;
mod watch_change;
mod watch_engine;
mod watch_health;
mod watch_stream;
mod write_health;
mod write_probe;

pub use call::Etcd;
pub use claim::Claim;
pub use decode::Unreadable;
pub use error::{CallError, EtcdError};
pub use failure::{Failure, FailureClass};
pub use foreign::{ForeignKey, ForeignList};
pub use holder::Held;
pub use options::{ConfigError, EtcdOptions};
pub use overrides::TakenBack;
pub use registration::{Left, Registration};
pub use settings::{Expected, Setting, Write};
pub use settings_watch::SettingsChange;
pub use snapshot::Snapshot;
pub use status::{EtcdStatus, MemberStatus};
pub use watch::{Watch, watch};
pub use watch_change::{Change, OverrideUpdate, PolicyUpdate, WatchOptions};
pub use watch_health::{ResyncCause, WatchHealth, WatchState};
pub use write_health::{PASSES_WITHIN, WriteHealth, WriteTrouble};
