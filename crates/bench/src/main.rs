//! `bench`: see the library.
#![expect(clippy::print_stderr, reason = "a person started this by hand")]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match bench::cli::Options::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
