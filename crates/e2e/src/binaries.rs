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

/// The program `name`, or the example of that name.
///
/// # Panics
///
/// When it was not built.
#[must_use]
pub fn find(name: &str) -> PathBuf {
    let places = [folder().join(name), folder().join("examples").join(name)];
    let found = places.into_iter().find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built; run: cargo build --workspace --bins"))
}
