//! The `registry` binary: configuration in, exit code out; everything else is the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::service::main("registry", registry::run)
}
