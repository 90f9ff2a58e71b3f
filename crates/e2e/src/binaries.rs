//! Finds the programs that the build made: beside the test that asks.

use std::path::{Path, PathBuf};

/// The folder of the built programs: `target/debug` or wherever cargo put this test's parent.
///
/// # Panics
///
/// When the running test has no path, which no supported platform lets happen.
#[must_use]
pub fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    let folder = test.parent().and_then(Path::parent).expect("a test lies in target/PROFILE/deps");
    folder.to_owned()
}

/// The program `name`.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn find(name: &str) -> PathBuf {
    let program = folder().join(name);
    assert!(program.is_file(), "{name} is not built; run: cargo build --workspace --bins");
    program
}
