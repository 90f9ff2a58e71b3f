//! Commands that are printed to be pasted: with the options that say where to look, as they were given.

use clap::{ArgMatches, Command, parser::ValueSource};

use crate::terminal::shell_quote::quoted;

/// Options that say what to do this time, and not where.
const OF_THIS_TIME: [&str; 3] = ["reason", "author", "incarnation"];

/// `muster` and its options, as the person wrote them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hint {
    program: String,
    flags: String,
}

// === impl Hint ===

impl Hint {
    /// What was given to the subcommand `command`, as `matches`. Variables need no repeating: they are still set.
    pub(crate) fn new(program: &str, command: &Command, matches: &ArgMatches) -> Self {
        let mut flags = String::new();
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            let is_where = argument.get_action().takes_values() && !OF_THIS_TIME.contains(&id);
            let is_given = matches.try_contains_id(id).is_ok_and(|is_there| is_there)
                && matches.value_source(id) == Some(ValueSource::CommandLine);
            let (Some(long), true) = (argument.get_long(), is_where && is_given) else { continue };
            let values = matches.get_raw(id).into_iter().flatten();
            let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            flags += &format!(" --{long} {}", quoted(&values.join(",")));
        }
        Self { program: quoted(program), flags }
    }

    /// `muster drain mail 10.0.0.5:7070 --registry http://10.0.0.2:8500`, then `more`.
    pub(crate) fn command(&self, name: &str, operands: &[&str], more: &str) -> String {
        let operands: String = operands.iter().map(|operand| format!(" {}", quoted(operand))).collect();
        format!("{} {name}{operands}{}{more}", self.program, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn a_hint_has_the_options_that_were_given_and_no_others() {
        let command = Command::new("drain").args([
            Arg::new("registry").long("registry").value_delimiter(','),
            Arg::new("data").long("data").default_value("data"),
            Arg::new("reason").long("reason"),
            Arg::new("all").long("all").action(clap::ArgAction::SetTrue),
            Arg::new("service"),
        ]);
        let line = ["drain", "mail", "--registry", "http://a:1,http://b:1", "--all", "--reason", "disk"];
        let hint = Hint::new("target/release/muster", &command, &command.clone().get_matches_from(line));
        let expected = "target/release/muster drain mail a --registry http://a:1,http://b:1 --undo";
        assert_eq!(hint.command("drain", &["mail", "a"], " --undo"), expected);
    }
}
