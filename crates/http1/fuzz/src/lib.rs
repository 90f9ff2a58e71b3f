//! What must hold for any input: checked by the fuzz targets, and by the ordinary tests over the corpus.
//!
//! Run a target (`request`, `response` or `body`) for an hour, with new finds outside the tree. It needs `cargo install
//! cargo-fuzz` and a nightly toolchain; a sanitizer would look for what safe code cannot do:
//!
//! ```console
//! $ cd crates/http1 && mkdir -p /tmp/found
//! $ cargo +nightly fuzz run -O -s none request /tmp/found fuzz/corpus/request -- -max_total_time=3600
//! ```
//!
//! A file of the corpus whose name begins with `accept-` must be accepted, one that begins with `refuse-` refused.

mod body;
mod head;

pub use body::body;
pub use head::{request, response};
