//! The command line of the suite.
//!
//! A file a command, with its options. The rooms from the ground up; each imports only those above it in this table:
//!
//! | room | what it settles |
//! |---|---|
//! | `environment`, `terminal` | the environment of a process as a value; text for a person: width, colours, columns |
//! | `state` | `muster.json` in the data folder: what runs where, for tests, for the other commands, for the next start |
//! | `client` | where to look; registries and gateways: the first one that answers |
//! | `listing` | who is there and who has gone, in a person's words |
//! | `ls`, `drain` | the list; an operator's order about an instance |
//! | `key` | the API keys of the gateway's clients |
//! | `explain` | why requests go where they go |
//! | `watch` | each change, from etcd itself |
//! | `status` | how everything is, the worst first |
//! | `up` | runs the whole suite on one machine; it reads top to bottom in `up.rs` |
//! | `cli` | the commands |

mod cli;
mod client;
mod drain;
mod environment;
mod explain;
mod key;
mod listing;
mod ls;
mod state;
mod status;
mod terminal;
mod up;
mod watch;

pub use cli::main;
