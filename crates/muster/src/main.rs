//! The `muster` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    muster::main()
}
