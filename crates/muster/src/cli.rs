//! The commands, and `main`. Their options stand beside them.

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::Resettable};
use service_kit::{config::EXIT_USAGE, private_files};

use crate::{
    client::{hint::Hint, places::Given},
    drain, explain, key, ls, status,
    up::{
        self,
        options::UpOptions,
        parent_death::{self, ParentDeathOptions},
    },
    watch,
};

/// Muster: service discovery on etcd.
#[derive(Debug, Parser)]
#[command(name = "muster", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the whole suite on this machine until Ctrl-C.
    Up(UpOptions),
    /// Says in one screen how everything is, the worst first. Exits with 0: well; 1: something is wrong; 2: that cannot
    /// be told.
    Status(status::StatusOptions),
    /// Lists services and their instances, also those that have gone in the last ten minutes.
    Ls(ls::LsOptions),
    /// Prints every change of the instances as it happens, until Ctrl-C.
    Watch(watch::WatchOptions),
    /// Says why the gateway sends the requests of a service where it sends them.
    Explain(explain::ExplainOptions),
    /// Takes an instance out of rotation without ending it, or puts it back.
    Drain(drain::DrainOptions),
    /// Makes, lists and revokes the API keys with which clients pass the gateway.
    Key(key::KeyOptions),
    /// Becomes another program that ends with this one's parent.
    #[command(hide = true)]
    Tethered(ParentDeathOptions),
}

/// Runs the command that the process's arguments ask for.
///
/// Exit codes: 0 done, or an orderly end of `muster up`; 1 it failed, and standard error says why; 64 the options are
/// wrong. `muster status` has its own.
pub fn main() -> ExitCode {
    private_files::by_default();
    let (cli, given) = match parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help that was asked for goes to standard output, a mistake to standard error. Either may be closed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    if let Command::Tethered(options) = &cli.command {
        return fail(&parent_death::become_program(options));
    }
    service_kit::config::misspelt::<Cli>().iter().for_each(|hint| say(hint));
    // One thread: on Linux a child is tethered to the thread that started it, and this one lives as long as the
    // process.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Up(options) => up::run(&options).await,
            Command::Status(options) => status::run(&options, &given).await,
            Command::Ls(options) => ls::run(&options, &given).await.map(|()| ExitCode::SUCCESS),
            Command::Watch(options) => watch::run(&options, &given).await.map(|()| ExitCode::SUCCESS),
            Command::Explain(options) => explain::run(&options, &given).await.map(|()| ExitCode::SUCCESS),
            Command::Drain(options) => drain::run(&options, &given).await.map(|()| ExitCode::SUCCESS),
            Command::Key(options) => key::run(&options, &given).await.map(|()| ExitCode::SUCCESS),
            Command::Tethered(_) => unreachable!("it was dealt with above"),
        }
    });
    // A look-up of a name that hangs in a thread of its own must not hold up the end.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| fail(&error))
}

/// Reads arguments and environment, and which of the two said where to look. A variable that is set but empty counts as
/// unset, as in our services.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Cli, Given), clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let mut command = Cli::command().mut_subcommands(|command| {
        command.mut_args(|argument| match argument.get_env() {
            Some(name) if std::env::var_os(name).is_some_and(|value| value.is_empty()) => {
                argument.env(Resettable::Reset)
            }
            _ => argument,
        })
    });
    let matches = command.try_get_matches_from_mut(&arguments)?;
    let program = arguments.first().map_or_else(|| "muster".into(), |program| program.to_string_lossy());
    let given = matches.subcommand().and_then(|(name, matches)| {
        let hint = Hint::new(&program, command.find_subcommand(name)?, matches);
        Some(Given::new(matches, hint))
    });
    Ok((Cli::from_arg_matches(&matches)?, given.unwrap_or_default()))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    say(&format!("{error:#}"));
    ExitCode::FAILURE
}

#[expect(clippy::print_stderr, reason = "this is where a command line says what went wrong")]
fn say(sentence: &str) {
    eprintln!("muster: {sentence}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_name_that_cannot_be_an_instance_is_a_mistake_before_anything_is_asked() {
        let parse = |line: &str| parse(line.split(' ').map(OsString::from));
        let error = parse("muster drain Mail a").unwrap_err().to_string();
        assert!(error.contains("SERVICE") && error.contains("a-z"), "{error}");
        assert!(parse("muster drain mail ../x").is_err());
    }
}
