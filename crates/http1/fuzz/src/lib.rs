//! What must hold for any input: checked by the fuzz targets, and by the ordinary tests over the corpus.
//!
//! Run a target for an hour, with new finds outside the tree (`cargo install cargo-fuzz`; it needs a nightly toolchain):
//!
//! ```console
//! $ cd crates/http1 && cargo +nightly fuzz run request /tmp/found fuzz/corpus/request -- -max_total_time=3600
//! ```
//!
//! A file of the corpus whose name begins with `accept-` must be accepted, one that begins with `refuse-` refused.

mod body;
mod head;

pub use body::body;
pub use head::{request, response};
