//! Configuration: flags and environment variables from one `clap` definition, every mistake reported at once.
//!
//! clap stops at the first mistake. Somebody who starts a service with three wrong variables should not need three
//! starts to learn that, so [`parse_from`] notes the mistake, takes the offending option out of the game and parses
//! again, until nothing is left to complain about. A variable that is set but empty counts as unset, because that is
//! what `${NAME:-}` in a compose file means.

use std::{error::Error as _, ffi::OsString, net::SocketAddr, process::ExitCode};

use clap::{
    Arg, Command, Parser,
    builder::{Resettable, StringValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{browser::BrowserOptions, telemetry::LogFormat};

/// `EX_USAGE` of `sysexits.h`: the command was used incorrectly.
pub const EXIT_USAGE: u8 = 64;

/// Options that every service has.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonOptions {
    /// What is logged, as `level` or `crate=level`, separated by commas.
    #[arg(long = "log", env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Asks a running instance of this service for its /healthz, exits with 0 or 1. For container health checks.
    #[arg(long)]
    pub healthcheck: bool,
    /// Which names and pages are ours.
    #[command(flatten)]
    pub browser: BrowserOptions,
}

/// The configuration of one service.
pub trait ServiceConfig: Parser {
    /// The options shared by all services.
    fn common(&self) -> &CommonOptions;

    /// Where `/healthz` is served.
    fn health_address(&self) -> SocketAddr;

    /// Whether it is served over TLS.
    fn speaks_tls(&self) -> bool {
        false
    }

    /// What no single option can see: rules that tie options together. One sentence each, naming the options.
    fn mistakes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Reads the process's arguments and environment.
///
/// # Errors
/// The exit code with which the process should end: 0 after `--help` and `--version`, 64 after mistakes, which have
/// then been printed on standard error.
pub fn load<C: Parser>(mistakes_of: impl FnOnce(&C) -> Vec<String>) -> Result<C, ExitCode> {
    let mistakes = match parse_from::<C>(std::env::args_os()) {
        Ok(config) => match mistakes_of(&config) {
            mistakes if mistakes.is_empty() => return Ok(config),
            mistakes => mistakes,
        },
        Err(Refused::Shown(text)) => {
            #[expect(clippy::print_stdout, reason = "help and version are what was asked for")]
            {
                print!("{text}");
            }
            return Err(ExitCode::SUCCESS);
        }
        Err(Refused::Mistakes(mistakes)) => mistakes,
    };
    report(C::command().get_name(), &mistakes);
    Err(ExitCode::from(EXIT_USAGE))
}

/// Prints configuration mistakes the way all our binaries do.
#[expect(clippy::print_stderr, reason = "there is no log yet, and a person started this by hand")]
pub fn report(program: &str, mistakes: &[String]) {
    eprintln!("{program}: {} in the configuration:", if mistakes.len() == 1 { "a mistake" } else { "mistakes" });
    for mistake in mistakes {
        eprintln!("  {mistake}");
    }
    eprintln!("{program} --help lists every option and its environment variable.");
}

/// Why there is no configuration.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// `--help` or `--version`: text for standard output.
    Shown(String),
    /// Every mistake found, one sentence each.
    Mistakes(Vec<String>),
}

/// Parses arguments (the first is the program's name) and the environment.
///
/// # Errors
/// Help that was asked for, or all mistakes at once.
pub fn parse_from<C: Parser>(args: impl IntoIterator<Item = OsString>) -> Result<C, Refused> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let mut command = without_empty_variables(C::command());
    let mut mistakes = Vec::new();
    // Every round takes one option or one argument out of the game, so the number of both bounds the rounds.
    for _ in 0..=args.len() + command.get_arguments().count() {
        let error = match command.clone().try_get_matches_from(&args) {
            Ok(_) if !mistakes.is_empty() => return Err(Refused::Mistakes(mistakes)),
            Ok(matches) => {
                return C::from_arg_matches(&matches).map_err(|error| Refused::Mistakes(vec![first_line(&error)]));
            }
            Err(error) => error,
        };
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Err(Refused::Shown(error.to_string()));
        }
        mistakes.push(sentence(&error, &command));
        match set_aside(&error, command, &mut args) {
            Some(rest) => command = rest,
            None => break,
        }
    }
    Err(Refused::Mistakes(mistakes))
}

/// Takes the option that `error` complains about out of the game; `None` when that cannot be done.
fn set_aside(error: &clap::Error, command: Command, args: &mut Vec<OsString>) -> Option<Command> {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    if error.kind() == ErrorKind::UnknownArgument {
        let before = args.len();
        args.retain(|arg| arg.to_string_lossy().split('=').next() != Some(shown.as_str()));
        return (args.len() < before).then_some(command);
    }
    let id = find(&command, shown)?.get_id().clone();
    Some(command.mut_arg(id, |arg| arg.required(false).num_args(0..).value_parser(StringValueParser::new())))
}

/// The option that clap shows as `--ttl <TTL>`; only a built command knows how its options are shown.
fn find(command: &Command, shown: &str) -> Option<Arg> {
    let mut built = command.clone();
    built.build();
    built.get_arguments().find(|arg| arg.to_string() == shown).cloned()
}

/// `--ttl (TTL) = "2": a unit is missing; …`
fn sentence(error: &clap::Error, command: &Command) -> String {
    let (Some(ContextValue::String(shown)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return first_line(error);
    };
    let flag = shown.split([' ', '=']).next().unwrap_or(shown);
    let option = find(command, shown);
    let variable = option.as_ref().and_then(Arg::get_env).map(|name| format!(" ({})", name.to_string_lossy()));
    let reason = error.source().map_or_else(|| allowed_values(error), ToString::to_string);
    format!("{flag}{} = \"{value}\": {reason}", variable.unwrap_or_default())
}

fn allowed_values(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("it must be one of {}", values.join(", ")),
        _ => first_line(error),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn without_empty_variables(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_env() {
        Some(name) if std::env::var_os(name).is_some_and(|value| value.is_empty()) => arg.env(Resettable::Reset),
        _ => arg,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "sample")]
    struct Sample {
        #[arg(long, env = "SAMPLE_LISTEN_NOT_SET", default_value = "127.0.0.1:8500")]
        listen: SocketAddr,
        #[arg(long, env = "SAMPLE_TTL_NOT_SET", default_value = "5s", value_parser = crate::duration::parse)]
        ttl: Duration,
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    }

    fn parse(line: &str) -> Result<Sample, Refused> {
        parse_from(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn defaults_work_without_any_option() {
        let sample = parse("sample").unwrap();
        assert_eq!((sample.listen.port(), sample.ttl), (8500, Duration::from_secs(5)));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let Err(Refused::Mistakes(mistakes)) = parse("sample --ttl 2 --listen nowhere --log-format xml --colour")
        else {
            panic!("four mistakes must not parse")
        };
        assert_eq!(mistakes.len(), 4, "{mistakes:#?}");
        let all = mistakes.join("\n");
        assert!(all.contains("--ttl (SAMPLE_TTL_NOT_SET) = \"2\": a unit is missing"), "{all}");
        assert!(all.contains("--listen (SAMPLE_LISTEN_NOT_SET) = \"nowhere\": invalid socket address"), "{all}");
        assert!(all.contains("--log-format = \"xml\": it must be one of auto, text, json"), "{all}");
        assert!(all.contains("unexpected argument '--colour'"), "{all}");
    }

    #[test]
    fn help_is_not_a_mistake() {
        assert!(matches!(parse("sample --help"), Err(Refused::Shown(text)) if text.contains("--ttl")));
    }
}
