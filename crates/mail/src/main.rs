//! The `mail` service; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == mail::templates::worker::COMMAND) {
        return mail::templates::worker::main();
    }
    service_kit::service::main("mail", mail::run)
}
