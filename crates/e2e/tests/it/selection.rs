//! Cargo unites the features of the crates that are built together. What is built with another selection is compiled once
//! more, with all that stands on it: the build of the programs and those of `make bench`, `make faults` and the images ask
//! for the same features of every dependency.

use std::{collections::BTreeSet, path::PathBuf, process::Command};

/// Every crate that `selection` builds, with its features, without those of the workspace.
fn crates(edges: &str, selection: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--no-dedupe", "--prefix=none", "--format={p} {f}", "--edges", edges])
        .args(selection)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter(|line| !line.contains("(/")).map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// What `make run` builds.
const PROGRAMS: [&str; 3] = ["--workspace", "--exclude", "bench"];

#[test]
fn the_tests_of_the_suite_stand_on_the_crates_of_the_programs() {
    let programs = crates("normal,build", &PROGRAMS);
    assert!(programs.len() > 300, "{programs:?}");
    let suite = crates("normal,build,dev", &["--package", "e2e"]);
    let again: Vec<_> = suite.difference(&programs).collect();
    assert!(again.is_empty(), "compiled again for `make faults`: {again:#?}");
}

#[test]
fn the_benchmark_stands_on_the_crates_of_the_programs() {
    let programs = crates("normal,build", &PROGRAMS);
    let all = crates("normal,build", &["--workspace"]);
    let names = |all: &BTreeSet<String>| -> BTreeSet<String> {
        all.iter().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
    };
    let known = names(&programs);
    let again: Vec<_> = all
        .difference(&programs)
        .filter(|line| line.split(' ').next().is_some_and(|name| known.contains(name)))
        .collect();
    assert!(again.is_empty(), "compiled again for `make bench`: {again:#?}");
}

#[test]
fn every_build_that_is_written_down_selects_the_workspace() {
    for file in ["Makefile", "README.md", "docker/Dockerfile", "doc/faults.md", "doc/performance.md", "doc/by-hand.md"]
    {
        let text = std::fs::read_to_string(root().join(file)).unwrap().replace("\\\n", " ");
        let builds =
            text.split(['\n', '&', ';']).filter(|line| line.contains("cargo build") || line.contains("$(CARGO) build"));
        for build in builds {
            let is_whole = build.contains("--workspace") || build.contains("$(PROGRAMS)") || build.contains("-p e2e");
            assert!(is_whole, "{file}: another selection compiles the dependencies once more: {}", build.trim());
        }
    }
}
