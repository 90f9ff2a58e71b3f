//! Leases: granted, kept alive and revoked, and none left behind.
//!
//! | file | what it settles |
//! |---|---|
//! | [`grant`] | grant and revoke; a lease that turns out not to be needed is revoked |
//! | [`keep_alive`] | what a heartbeat costs when nothing changed |
//! | [`write_probe`] | whether etcd writes again, asked by granting a lease |

pub(crate) mod grant;
pub(crate) mod keep_alive;
pub(crate) mod write_probe;
