//! The `mail` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    mail::main()
}
