//! What an operator's tools read.
//!
//! | file | |
//! |---|---|
//! | [`metrics`] | the metrics, counted where it costs nothing and collected when they are asked for |

pub mod metrics;
