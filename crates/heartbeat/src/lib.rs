//! How an instance stays registered: a heartbeat every two seconds to whichever registry answers.
//!
//! A service embeds [`Heartbeat`]; any other program is announced by the `heartbeat` binary, a sidecar around the same
//! loop. What happens from start to end:
//!
//! | step | where |
//! |---|---|
//! | what is announced, and to whom | [`HeartbeatOptions`], [`Details`] |
//! | which address others reach us by | `advertise` |
//! | how the instance is, and how often that is said anew | [`Condition`] |
//! | when the next heartbeat is due | `schedule`, a pure function of the replies |
//! | which registry is asked next | `registries`, likewise |
//! | which life of the registration a heartbeat is of | `task::life` |
//! | one request, with a deadline | `client`; over gRPC `rpc` |
//! | what a refusal means | `refusal` |
//! | what proves who we are | [`Credentials`] |
//! | that we listen where we say, for registries that ask | [`AddressProof`] |
//! | what changed, worth a log line | `registration_state`, likewise pure |
//! | the loop that ties them | `task` |
//! | what answers in the place of a registry | `mistaken` |
//! | which other instances the registries list | [`neighbours()`] |
//! | leaving: draining → DELETE → let go | `task::leave` |
//! | the service's own configuration, from the same registries | [`setting`] |
//!
//! ```no_run
//! # async fn f(service: discovery::ServiceName, options: heartbeat::HeartbeatOptions) -> std::io::Result<()> {
//! use heartbeat::{Condition, Details, Heartbeat};
//!
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:7070").await?;
//! let heartbeat = Heartbeat::start(service, listener.local_addr()?, &options, Details::default());
//! // Listed, but out of rotation, with a visible reason.
//! heartbeat.set_condition(Condition::new(discovery::Status::Critical, "the database is gone"));
//! heartbeat.deregister().await; // at SIGTERM, before the listener is closed
//! # Ok(())
//! # }
//! ```
//!
//! The registries are replicas of each other, and none of them matters: one that is dead, frozen, overloaded or
//! answering nonsense costs a second, not the registration.

mod advertise;
mod client;
mod condition;
mod credentials;
mod details;
mod error;
mod handle;
mod log_events;
mod metrics;
mod mistaken;
mod neighbours;
mod options;
mod poll;
mod proof;
mod refusal;
mod registration_state;
mod registries;
mod registry_url;
mod rpc;
mod schedule;
pub mod setting;
mod state;
mod task;

pub use advertise::{AdvertiseError, AnnouncedAddress};
pub use condition::Condition;
pub use credentials::{Credentials, Unreadable};
pub use details::Details;
pub use error::HeartbeatError;
pub use handle::Heartbeat;
pub use metrics::HeartbeatMetrics;
pub use neighbours::{Neighbour, neighbours};
pub use options::HeartbeatOptions;
pub use proof::AddressProof;
pub use registry_url::RegistryUrl;
pub use state::State;
