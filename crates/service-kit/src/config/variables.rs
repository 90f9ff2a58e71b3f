//! Environment variables whose names are nearly those of options: nothing reads them, and nothing would say so.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};

/// Shorter names are near to words that any program may use (`HOST` to `PORT`): of these only a wrong plural is
/// noticed.
const LEN_MIN: usize = 6;

/// Variables of one program that are near to one of another: where several programs share an environment, both are
/// right.
const OF_OTHERS: [&str; 2] = ["REGISTRY_TOKEN_FILE", "REGISTRY_TOKENS_FILE"];

/// One sentence for each variable of this process that seems to be meant for an option of `C`, and is not its name.
///
/// It differs by one letter (one too many, one missing, another one, two in the wrong order), and the right one is not
/// set.
#[must_use]
pub fn misspelt<C: CommandFactory>() -> Vec<String> {
    // Empty counts as unset, here too.
    let set = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let set: BTreeSet<String> = set.filter_map(|(name, _)| name.into_string().ok()).collect();
    let mut known = BTreeSet::new();
    collect(&C::command(), &mut known);
    sentences(&known, &set)
}

fn collect(command: &Command, known: &mut BTreeSet<String>) {
    let names = command.get_arguments().filter_map(clap::Arg::get_env);
    known.extend(names.map(|name| name.to_string_lossy().into_owned()));
    command.get_subcommands().for_each(|subcommand| collect(subcommand, known));
}

fn sentences(known: &BTreeSet<String>, set: &BTreeSet<String>) -> Vec<String> {
    let strange = set.difference(known).filter(|name| !OF_OTHERS.contains(&name.as_str()));
    let meant = |name: &str| known.iter().find(|option| !set.contains(*option) && is_near(option, name));
    strange
        .filter_map(|name| Some((name, meant(name)?)))
        .map(|(name, option)| format!("{name} is set, but there is no such variable; did you mean {option}?"))
        .collect()
}

fn is_near(known: &str, name: &str) -> bool {
    let is_plural = |one: &str, other: &str| other.strip_suffix('S') == Some(one);
    is_plural(known, name) || is_plural(name, known) || known.len() >= LEN_MIN && strsim::osa_distance(known, name) <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_letter_off_is_noticed_and_what_is_right_or_foreign_is_not() {
        let names = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let known = names(&["REGISTRY_URLS", "MAIL_FROM", "PORT", "REGISTRY_TOKEN_FILE"]);
        for name in ["REGISTRY_URL", "REGISTRY_ULRS", "REGISTRYURLS", "REGISTRY_URLSS", "MAIL_FORM", "PORTS"] {
            let said = sentences(&known, &names(&[name]));
            assert!(matches!(&said[..], [one] if one.starts_with(name) && one.contains("did you mean")), "{said:?}");
        }
        for name in ["HOST", "REGISTRY_URLS", "REGISTRY", "MAILS_FORM", "REGISTRY_TOKENS_FILE", "PATH"] {
            assert_eq!(sentences(&known, &names(&[name])), [""; 0], "{name}");
        }
        assert_eq!(sentences(&known, &names(&["REGISTRY_URL", "REGISTRY_URLS"])), [""; 0], "the right one is set");
    }
}
