//! The command line of the suite.
//!
//! `muster up` runs everything on one machine. It reads top to bottom in `up.rs`, with these rooms:
//!
//! | module | what it settles |
//! |---|---|
//! | `cli` | the commands and their options |
//! | `data` | the one folder in which everything lies, and the lock that gives it to one `muster up` at a time |
//! | `state` | `muster.json` in that folder: what runs where, for tests, for the other commands, for the next start |
//! | `leftovers`, `process_id` | processes that a killed `muster up` left behind |
//! | `programs` | finds the service binaries and etcd, or says how to get them |
//! | `ports` | the usual ports, or free ones |
//! | `topology`, `environment`, `etcd_member` | what runs: programs, arguments, environment. Pure |
//! | `etcd_rejoin` | brings a member back whose folder is gone |
//! | `tether` | a child that ends when `muster` does, however `muster` ends |
//! | `child` | one life of one process |
//! | `supervisor`, `restart`, `readiness` | keeps one process running; when to give up (pure); whether it answers |
//! | `board`, `suite` | what is known about each process; starting and stopping all in order |
//! | `recorder`, `signals` | writes that down; what asks for the end |
//! | `console`, `log_prefix`, `etcd_log` | `etcd-1 │ …`, without ever waiting for a slow terminal |
//! | `greeting` | what runs where, and what to try |
//!
//! The other commands ask what runs already, wherever that is:
//!
//! | module | what it settles |
//! |---|---|
//! | `places`, `hint` | where to look, by one rule for all; that command again, to be pasted |
//! | `access`, `registries`, `gateways` | TLS and tokens; the first registry or gateway that answers |
//! | `ls`, `listing` | who is there and who has gone, in a person's words |
//! | `status`, `findings` | how everything is, the worst first; what that means (pure) |
//! | `watch`, `shown` | each change, from etcd itself; what is different now (pure) |
//! | `explain`, `drain` | why requests go where they go; an operator's word |
//! | `screen`, `table` | width and colours; text in columns |

mod access;
mod board;
mod child;
mod child_environment;
mod cli;
mod console;
mod data;
mod drain;
mod environment;
mod etcd_advice;
mod etcd_log;
mod etcd_log_level;
mod etcd_member;
mod etcd_rejoin;
mod explain;
mod findings;
mod gateways;
mod greeting;
mod hint;
mod leftovers;
mod listing;
mod log_prefix;
mod ls;
mod places;
mod ports;
mod printable;
mod process_id;
mod programs;
mod readiness;
mod recorder;
mod registries;
mod restart;
mod screen;
mod shell_quote;
mod shown;
mod signals;
mod state;
mod status;
mod suite;
mod supervisor;
mod table;
mod tether;
mod topology;
mod up;
mod up_options;
mod watch;

pub use cli::main;
