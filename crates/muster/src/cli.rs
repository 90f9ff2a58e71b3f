//! The commands, their options, and `main`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, builder::Resettable};
use discovery::{InstanceId, ServiceName};
use service_kit::{config::EXIT_USAGE, duration, private_files};

use crate::{
    access::TrustOptions,
    drain, explain,
    hint::Hint,
    ls,
    places::{DataOption, Given},
    registries::RegistryOptions,
    status, tether, up, watch,
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
    /// Says in one screen how everything is, the worst first. Exits with 0: well; 1: something is wrong; 2: that cannot be told.
    Status(status::StatusOptions),
    /// Lists services and their instances, also those that have gone in the last ten minutes.
    Ls(ls::LsOptions),
    /// Prints every change of the instances as it happens, until Ctrl-C.
    Watch(watch::WatchOptions),
    /// Says why the gateway sends the requests of a service where it sends them.
    Explain(explain::ExplainOptions),
    /// Takes an instance out of rotation without ending it, or puts it back.
    Drain(DrainOptions),
    /// Becomes another program that ends with this one's parent.
    #[command(hide = true)]
    Tethered(TetherOptions),
}

/// Options of `muster up`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpOptions {
    /// The folder for everything that is kept: etcd, users, mails, the gateway's table, muster.json.
    #[arg(long, env = "MUSTER_DATA", default_value = "data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Where registry, balance, mail and userlist are; by default beside muster itself.
    #[arg(long, env = "MUSTER_BIN_DIR", value_name = "FOLDER")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// The etcd program: a name that is looked for on PATH, or a path.
    #[arg(long, env = "MUSTER_ETCD", default_value = "etcd", value_name = "PROGRAM")]
    pub(crate) etcd: PathBuf,
    /// What the etcd members log.
    #[arg(long, env = "MUSTER_ETCD_LOG", value_enum, default_value_t)]
    pub(crate) etcd_log: EtcdLogLevel,
    /// How long each step of the end may take before what is left is killed.
    #[arg(long, default_value = "20s", value_parser = duration::parse_positive, value_name = "DURATION")]
    pub(crate) grace: Duration,
    /// How long to wait for everything to be ready before saying what is not.
    #[arg(long, default_value = "30s", value_parser = duration::parse_positive, value_name = "DURATION")]
    pub(crate) ready_within: Duration,
}

/// How much of etcd's log is shown. `info` is a page for every start, so the default is `warn`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EtcdLogLevel {
    /// Everything.
    Debug,
    /// What etcd does.
    Info,
    /// What etcd worries about.
    #[default]
    Warn,
    /// What fails.
    Error,
}

/// Options of `muster drain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrainOptions {
    #[command(flatten)]
    pub(crate) registries: RegistryOptions,
    #[command(flatten)]
    pub(crate) trust: TrustOptions,
    #[command(flatten)]
    pub(crate) data: DataOption,
    /// Puts the instance back into rotation.
    #[arg(long)]
    pub(crate) undo: bool,
    /// Why, for readers of the list.
    #[arg(long, value_name = "TEXT", conflicts_with = "undo")]
    pub(crate) reason: Option<String>,
    /// Who says so.
    #[arg(long, env = "USER", hide_env_values = true, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// Holds on when the instance ends: the next holder of its id is drained, too, until it is taken back.
    #[arg(long, conflicts_with = "undo")]
    pub(crate) outlives: bool,
    /// The service.
    pub(crate) service: ServiceName,
    /// The instance, as `muster ls` shows it.
    pub(crate) instance: InstanceId,
}

/// Options of the hidden command that [`tether`] is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct TetherOptions {
    /// The process with which to end.
    #[arg(long)]
    pub(crate) parent: i32,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

// === impl EtcdLogLevel ===

impl EtcdLogLevel {
    /// As etcd's `--log-level` wants it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
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
        return fail(&tether::become_tethered(options));
    }
    service_kit::config::misspelt::<Cli>().iter().for_each(|hint| say(hint));
    // One thread: on Linux a child is tethered to the thread that started it, and this one lives as long as the process.
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
