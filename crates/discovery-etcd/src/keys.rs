//! Reading and writing keys: one at a time, and each write a compare-and-swap.
//!
//! | file | what it settles |
//! |---|---|
//! | [`compare_and_swap`] | writes that may be repeated without harm |
//! | [`registration`], [`leave`] | an instance's life: register, update, deregister; its end with a farewell |
//! | [`claim`], [`holder`] | register if the key is still as it was seen: how registries agree without a leader |
//! | [`dialect_keys`] | the same instance in other systems' formats, under the same lease |
//! | [`foreign_keys`] | registrations that other programs have written, and their copies |
//! | [`overrides`], [`settings`] | an operator's orders; values below `config/` |
//! | [`leader_election`], [`presence`] | a key that one process holds: one of many does a job; each of many says that it is there |
//! | [`decode`], [`snapshot`] | what keys and values mean; all of them, at one revision |

pub(crate) mod claim;
pub(crate) mod compare_and_swap;
pub(crate) mod decode;
pub(crate) mod dialect_keys;
pub(crate) mod foreign_keys;
pub(crate) mod holder;
pub(crate) mod leader_election;
pub(crate) mod leave;
pub(crate) mod overrides;
pub(crate) mod presence;
pub(crate) mod registration;
pub(crate) mod settings;
pub(crate) mod snapshot;
