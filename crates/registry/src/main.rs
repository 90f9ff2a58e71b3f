//! The `registry` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    registry::main()
}
