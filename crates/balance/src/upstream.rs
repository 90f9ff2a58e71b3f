//! The instance's side of a request: a connection, and one attempt on it.
//!
//! | file | |
//! |---|---|
//! | `attempt` | one request at one instance, until the head of its response |
//! | `failure` | a failed attempt: how far it got, and what follows |
//! | `breakage` | a response that breaks after its head |
//! | `exchange` | **a request out and its response in, whatever the framing** |
//! | `http1` | the framing of HTTP/1.1 |
//! | `connection`, `pool` | a connection to an instance; those that wait for the next request |
//! | `stream` | the bytes under a connection: TCP |
//! | `dial`, `connect_error` | from an address to a connection, and why there is none |
//! | `upstreams` | what one core has for all of this |

pub(crate) mod attempt;
pub(crate) mod breakage;
pub(crate) mod connect_error;
pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod exchange;
pub(crate) mod failure;
pub(crate) mod http1;
pub(crate) mod pool;
pub(crate) mod stream;
pub(crate) mod upstreams;
