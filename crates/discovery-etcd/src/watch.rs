//! List, watch from there, notice every gap, list again: for ever.
//!
//! ```text
//!            ┌───────────────────────── gap ──────────────────────────┐
//!            ▼                                                        │
//!          LIST ── at revision R ──▶ OPEN ── after R ──────▶ WATCH ────┘
//! ```
//!
//! A gap is a closed stream, a compacted revision, a member that went silent, or one that is behind the list. After
//! each the whole is listed again and compared, never resumed: a cluster that was wiped and has grown past our revision
//! since would otherwise look like one that merely goes on. A list is one read, and identical data makes no change.
//!
//! While etcd cannot be reached the watch retries, and its last changes stay in force;
//! [`WatchHealth`] says how old it is.
//!
//! | file | what it settles |
//! |---|---|
//! | [`change`], [`health`] | what a watch tells, and how it is |
//! | [`engine`] | the three phases |
//! | [`stream`], [`progress_monitor`] | one watch stream and its responses; a member that has gone silent |
//! | [`mirror`], [`reconcile`] | what etcd is known to hold; the regular comparison with a complete list |
//! | [`settings_watch`] | the same for settings, which are few |

pub(crate) mod change;
mod engine;
pub(crate) mod health;
mod mirror;
mod progress_monitor;
mod reconcile;
pub(crate) mod settings_watch;
mod stream;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    Stream, StreamExt,
    stream::{BoxStream, unfold},
};

use crate::{
    client::etcd::Etcd,
    watch::{
        change::{Change, WatchOptions},
        engine::Engine,
        health::WatchHealth,
    },
};

/// An endless stream of changes: a list first, then what happens. Never ends, never fails.
///
/// Nothing happens unless it is polled, and nothing is spawned. Hold on to the stream between polls.
pub struct Watch {
    changes: BoxStream<'static, Change>,
    health: WatchHealth,
}

/// Watches all ranges of `etcd`. Does nothing until it is polled.
pub fn watch(etcd: Etcd, options: WatchOptions) -> Watch {
    let health = WatchHealth::default();
    let engine = Engine::new(etcd, options, health.clone());
    let changes = unfold(engine, |mut engine| async move {
        let change = engine.next().await;
        Some((change, engine))
    });
    Watch { changes: changes.boxed(), health }
}

// === impl Watch ===

impl Watch {
    /// How it is, also while another task polls the stream.
    pub fn health(&self) -> WatchHealth {
        self.health.clone()
    }
}

impl Stream for Watch {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("health", &self.health).finish_non_exhaustive()
    }
}
