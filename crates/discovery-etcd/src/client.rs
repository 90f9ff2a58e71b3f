//! Calls to etcd: the handle, its connections, and what goes wrong with them.
//!
//! | file | what it settles |
//! |---|---|
//! | [`options`] | where etcd is, and how to prove who we are |
//! | [`access`], [`login`] | certificates and passwords, read again when they are refused; one log-in for all |
//! | [`member`], [`member_order`] | one connection per etcd member; which member to ask, and which to leave alone for a while |
//! | [`keep_alive_stream`] | thousands of leases over a few long-lived streams of one member |
//! | [`etcd`] | one attempt on one member, then the next, within one deadline |
//! | [`status`], [`write_health`] | how the members are; whether writes succeed, which no watch tells |
//! | [`failure`], [`error`] | why an attempt failed, and why a call did |

pub(crate) mod access;
pub(crate) mod error;
pub(crate) mod etcd;
pub(crate) mod failure;
pub(crate) mod keep_alive_stream;
pub(crate) mod login;
pub(crate) mod member;
pub(crate) mod member_order;
pub(crate) mod options;
pub(crate) mod status;
pub(crate) mod write_health;
