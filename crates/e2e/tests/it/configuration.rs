//! doc/configuration.md and the programs' own help name the same variables.

use std::{collections::BTreeSet, process::Command};

const DOCUMENT: &str = include_str!("../../../../doc/configuration.md");
/// Programs with the subcommands whose options are documented, "" for the program itself; the section is called like
/// the program. `muster status` has the options of all that ask something.
const PROGRAMS: [(&str, &[&str]); 6] = [
    ("registry", &[""]),
    ("balance", &[""]),
    ("mail", &[""]),
    ("userlist", &[""]),
    ("heartbeat", &[""]),
    ("muster", &["up", "status"]),
];

/// The variables in `[env: NAME=…]` of a program's help.
fn variables(program: &str, subcommand: &str) -> BTreeSet<String> {
    let mut command = Command::new(e2e::binaries::find(program));
    let help = command.args(subcommand.split_whitespace()).arg("--help").env_clear().output().unwrap();
    assert!(help.status.success(), "{program} --help");
    let help = String::from_utf8(help.stdout).unwrap();
    let after = help.split("[env: ").skip(1);
    after.filter_map(|rest| rest.split(['=', ']']).next()).map(str::to_owned).collect()
}

/// The section of the document that starts with `## title`.
fn section(title: &str) -> &'static str {
    let start = DOCUMENT.find(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
    let rest = &DOCUMENT[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

/// The variables of the tables in a section: the second cell of each row, between backquotes.
fn documented(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| row.split('|').nth(2)).map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

#[test]
fn every_variable_is_documented_and_every_documented_variable_exists() {
    let shared: BTreeSet<String> = ["Every service", "Services that register", "Services that use etcd"]
        .into_iter()
        .flat_map(|title| documented(section(title)))
        .collect();
    let mut used = BTreeSet::new();
    for (program, subcommands) in PROGRAMS {
        let own = documented(section(program));
        let found: BTreeSet<String> = subcommands.iter().flat_map(|name| variables(program, name)).collect();
        let missing: Vec<_> = found.iter().filter(|name| !own.contains(*name) && !shared.contains(*name)).collect();
        assert!(missing.is_empty(), "doc/configuration.md does not say what these do for {program}: {missing:?}");
        let stale: Vec<_> = own.iter().filter(|name| !name.is_empty() && !found.contains(*name)).collect();
        assert!(stale.is_empty(), "{program} has no such variables: {stale:?}");
        used.extend(found);
    }
    let stale: Vec<_> = shared.iter().filter(|name| !name.is_empty() && !used.contains(*name)).collect();
    assert!(stale.is_empty(), "no program has these variables: {stale:?}");
}

#[test]
fn a_misspelt_variable_is_named_with_the_right_one_and_those_of_other_programs_are_not() {
    let programs = ["registry", "balance", "mail", "userlist", "heartbeat"];
    let all: BTreeSet<String> = programs.iter().flat_map(|program| variables(program, "")).collect();
    for program in programs {
        let own = variables(program, "");
        let complaint = |variables: &[&str]| {
            // A mistake, so that it ends at once.
            let mut command = Command::new(e2e::binaries::find(program));
            command.env_clear().envs(variables.iter().map(|name| (name, "x"))).args(["--log-format", "none"]);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(64), "{program}");
            String::from_utf8(output.stderr).unwrap()
        };
        let others: Vec<&str> = all.difference(&own).map(String::as_str).collect();
        let said = complaint(&others);
        assert!(!said.contains("there is no such variable"), "{program}: {said}");
        let said = complaint(&["RUST_LGO"]);
        assert!(said.contains("RUST_LGO is set, but there is no such variable; did you mean RUST_LOG?"), "{said}");
    }
}

#[test]
fn instances_are_called_like_their_containers() {
    let compose = include_str!("../../../../docker-compose.yml");
    for name in ["mail-1", "mail-2", "userlist-1", "userlist-2"] {
        let start = compose.find(&format!("\n  {name}:")).unwrap() + 1;
        let entry = &compose[start..];
        // Up to the next entry, which is indented as this one is.
        let end = entry.match_indices("\n  ").find(|(at, _)| !entry[at + 3..].starts_with([' ', '#'])).unwrap().0;
        assert!(entry[..end].contains(&format!("INSTANCE_ID: {name}")), "{}", &entry[..end]);
    }
}
