//! The codec from outside: what it promises, row by row, for any input, and beside other parsers.

#![expect(clippy::unwrap_used, reason = "a panic in what a test is written with is a failed test")]

mod any;
mod bodies;
#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library to the fuzz targets")]
mod checks;
mod corpus;
mod for_any_input;
mod framing_table;
mod hyper_agrees;
mod layout;
mod memory;
mod mutations;
mod read;
mod requests;
mod responses;
mod stricter_than_httparse;
