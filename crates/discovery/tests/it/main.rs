//! Properties of the codecs: what holds for every value and every input.

#![expect(clippy::unwrap_used, reason = "a panic in what a test is written with is a failed test")]

mod any;
mod inputs;
mod round_trips;
