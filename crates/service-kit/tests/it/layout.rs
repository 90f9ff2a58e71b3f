//! The files of the crate import each other in no circle.

use std::path::Path;

use testkit::imports::Imports;

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = Imports::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(imports.circles().is_empty(), "{:?}", imports.circles());
}
