//! The checks, on small crates written for them.

use super::*;

/// Reads a crate of these files.
fn crate_of(files: &[(&str, &str)]) -> Imports {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Imports::read(folder.path())
}

#[test]
fn a_layout_as_in_the_table_has_no_faults() {
    let imports = crate_of(&[
        ("lib.rs", "mod ground; mod top; pub use top::run;"),
        ("ground.rs", "mod deep; pub(crate) use deep::Thing; pub(crate) struct Page;"),
        ("ground/deep.rs", "use super::Page; pub(crate) struct Thing(Page);"),
        ("top.rs", "use std::fmt; pub fn run(_: crate::ground::Thing) -> fmt::Result { Ok(()) }"),
    ]);
    assert_eq!(imports.faults(&[("ground", &[]), ("top", &["ground"])]), [""; 0]);
}

#[test]
fn an_import_upward_and_a_permission_that_is_not_used_are_faults() {
    let imports = crate_of(&[("ground.rs", "use crate::{top::{self, Up}};"), ("top.rs", ""), ("new.rs", "")]);
    let faults = imports.faults(&[("ground", &[]), ("top", &["ground"])]);
    for fault in [
        "`new` is not in the table",
        "`ground` must not import `top`, as `ground` does",
        "`top` no longer imports `ground`",
    ] {
        assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
    }
}

#[test]
fn the_table_reads_from_the_ground_up() {
    let imports = crate_of(&[("ground.rs", ""), ("top.rs", "use crate::ground::Thing;")]);
    let faults = imports.faults(&[("top", &["ground"]), ("ground", &[])]);
    assert_eq!(faults, ["`ground` must stand above `top` in the table, which may import it"]);
}

#[test]
fn a_circle_of_folders_is_one_without_a_circle_of_files() {
    let imports = crate_of(&[
        ("room.rs", "mod a; mod b;"),
        ("room/a.rs", "mod one; mod two;"),
        ("room/a/one.rs", "use crate::room::b::one::One;"),
        ("room/a/two.rs", "pub struct Two;"),
        ("room/b.rs", "pub mod one; mod two;"),
        ("room/b/one.rs", "pub struct One;"),
        ("room/b/two.rs", "fn two() -> super::super::a::two::Two { todo() }"),
    ]);
    assert_eq!(imports.circles(), [["room::a", "room::b", "room::a"]]);
    let faults = imports.faults(&[("room", &[])]);
    assert_eq!(faults, ["a circle: room::a → room::b → room::a"]);
}

#[test]
fn a_reexport_leads_to_where_the_thing_is() {
    let imports = crate_of(&[
        ("lib.rs", "mod client; mod watch; pub use client::Etcd;"),
        ("client.rs", "mod etcd; pub(crate) use etcd::Handle as Etcd;"),
        ("client/etcd.rs", "pub struct Handle;"),
        ("watch.rs", "fn watch() { vec![crate::Etcd::new()]; }"),
    ]);
    assert_eq!(imports.0["watch"], ["client::etcd".to_owned()].into());
}

#[test]
fn tests_comments_and_texts_import_nothing() {
    let imports = crate_of(&[
        (
            "a.rs",
            "//! See [`crate::b`].\nconst TEXT: &str = \"crate::b\";\n#[cfg(test)] mod tests { use crate::b::B; }",
        ),
        ("a/tests.rs", "use crate::b::B;"),
        ("b.rs", "use crate::a::TEXT;"),
    ]);
    assert!(imports.0["a"].is_empty() && imports.circles().is_empty(), "{imports:?}");
}
