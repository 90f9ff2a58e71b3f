//! Asking what runs already, wherever that is.
//!
//! | file | what it settles |
//! |---|---|
//! | [`places`], [`hint`] | where to look, by one rule for all; that command again, to be pasted |
//! | [`access`] | TLS, tokens and signatures |
//! | [`registries`], [`gateways`] | the first registry or gateway that answers |

pub(crate) mod access;
pub(crate) mod gateways;
pub(crate) mod hint;
pub(crate) mod places;
pub(crate) mod registries;
