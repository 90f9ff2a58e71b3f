//! Keys that were deleted without having been marked as draining; the mirror reports them to the restorer.

use std::sync::Arc;

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use crate::mirror::Entry;

/// An instance whose key was deleted, and when that was seen.
#[derive(Debug)]
pub struct Vanished {
    /// As it was.
    pub(crate) entry: Arc<Entry>,
    /// When.
    pub(crate) seen: Instant,
}

/// Where the mirror tells of keys that were deleted. Bounded by the number of instances: each was there before.
#[derive(Debug, Clone)]
pub struct VanishedSender(UnboundedSender<Vanished>);

/// A channel from the mirror to the [`Restorer`](crate::restore::Restorer).
pub fn channel() -> (VanishedSender, UnboundedReceiver<Vanished>) {
    let (sender, receiver) = unbounded_channel();
    (VanishedSender(sender), receiver)
}

// === impl VanishedSender ===

impl VanishedSender {
    /// These keys have just been deleted.
    pub fn report(&self, entries: Vec<Arc<Entry>>) {
        let seen = Instant::now();
        for entry in entries {
            // A registry that ends restores no more.
            let _ended = self.0.send(Vanished { entry, seen });
        }
    }
}
