//! Real parts for tests: etcd members, processes, free ports, and waiting for a condition instead of sleeping.
//!
//! Everything started here lives in a temporary folder, listens on a free loopback port, and is ended by its process id
//! when its handle is dropped, even by a panicking test.

pub mod chaos_proxy;
pub mod database;
pub mod etcd;
pub mod imports;
pub mod lan;
mod listening;
pub mod name_server;
mod peer_network;
pub mod ports;
pub mod process;
pub mod python;
pub mod smtp_sink;
pub mod sockets;
pub mod transcript;
pub mod upstream;
pub mod wait;
