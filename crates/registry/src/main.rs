//! The `registry` binary: configuration in, exit code out; everything else is the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "token") {
        return registry::token_command::run(std::env::args_os().skip(1));
    }
    service_kit::service::main("registry", registry::run)
}
