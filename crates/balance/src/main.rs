//! The gateway. Everything is in the library, so that tests can start it in their own process.

fn main() -> std::process::ExitCode {
    balance::main()
}
