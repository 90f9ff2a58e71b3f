//! The `mail` service; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::service::main("mail", mail::run)
}
