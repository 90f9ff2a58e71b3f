//! The binary: see the library.

use std::process::ExitCode;

use service_kit::service;

fn main() -> ExitCode {
    service::main("userlist", userlist::run)
}
