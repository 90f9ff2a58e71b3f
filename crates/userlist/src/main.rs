//! The `userlist` binary; everything is in the library.

fn main() -> std::process::ExitCode {
    userlist::main()
}
