//! Who waits for whom, and for how long: the programs' defaults and doc/architecture.md are those of the one table.

use std::{process::Command, time::Duration};

use discovery::deadlines::{Link, chains};
use service_kit::duration;

const DOCUMENT: &str = include_str!("../../../../doc/architecture.md");

/// The default that a program's help gives for an option.
fn default(program: &str, option: &str) -> Duration {
    let output = Command::new(e2e::binaries::find(program)).arg("--help").env_clear().output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let after = help.split(&format!("{option} ")).nth(1).unwrap_or_else(|| panic!("{program} has no {option}"));
    let text = after.split("[default: ").nth(1).and_then(|rest| rest.split(']').next()).expect("a default");
    duration::parse(text).unwrap()
}

/// A chain as the document shows it: `a heartbeat waits for a registry 1s > …`
fn shown(chain: &[Link]) -> String {
    let links: Vec<_> = chain.iter().map(|link| format!("{} {}", link.what, duration::format(link.at_most))).collect();
    links.join(" > ")
}

#[test]
fn the_programs_wait_as_the_table_says() {
    for link in chains().into_iter().flatten() {
        if let Some((program, option)) = link.option {
            assert_eq!(default(program, option), link.at_most, "{program} {option}: {}", link.what);
        }
    }
}

#[test]
fn the_document_shows_every_chain_as_it_is() {
    for chain in chains() {
        let line = shown(&chain);
        assert!(DOCUMENT.contains(&line), "doc/architecture.md does not have this line:\n{line}");
    }
}
