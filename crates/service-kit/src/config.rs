//! Configuration: flags and environment variables from one `clap` definition, every mistake reported at once.
//!
//! clap stops at the first mistake. A user who starts a service with three wrong variables should not need three
//! starts to learn that, so [`parse_from`] notes the mistake, takes the offending option out of the game and parses
//! again, until nothing is left to complain about. A variable that is set but empty counts as unset, because that is
//! what `${NAME:-}` in a compose file means.

mod variables;

use std::{
    error::Error as _,
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use clap::{
    Arg, Command, Parser,
    builder::{Resettable, StringValueParser},
    error::{ContextKind, ContextValue, ErrorKind},
};

pub use self::variables::misspelt;
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
    // An option that is missing may have been given under a wrong name.
    report(C::command().get_name(), &[mistakes, misspelt::<C>()].concat());
    Err(ExitCode::from(EXIT_USAGE))
}

/// Logs what [`misspelt`] finds: a default in the place of what was meant may go unnoticed for long.
pub fn warn_of_misspelt_variables<C: clap::CommandFactory>() {
    for sentence in misspelt::<C>() {
        tracing::warn!("{sentence}");
    }
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
        let is_it = |arg: &OsString| arg.to_string_lossy().split('=').next() == Some(shown.as_str());
        while let Some(at) = args.iter().position(is_it) {
            let is_alone = args[at].to_string_lossy() == *shown;
            let is_value = |arg: &OsString| !arg.to_string_lossy().starts_with('-');
            let has_value = is_alone && is_for_a_value(error, &command) && args.get(at + 1).is_some_and(is_value);
            args.drain(at..=at + usize::from(has_value));
        }
        return (args.len() < before).then_some(command);
    }
    let id = find(&command, shown)?.get_id().clone();
    Some(command.mut_arg(id, |arg| arg.required(false).num_args(0..).value_parser(StringValueParser::new())))
}

/// Whether the option that clap takes to be meant has a value: then what follows is no mistake of its own.
fn is_for_a_value(error: &clap::Error, command: &Command) -> bool {
    let Some(ContextValue::String(meant)) = error.get(ContextKind::SuggestedArg) else { return false };
    let is_meant = |arg: &&Arg| arg.get_long().is_some_and(|long| meant.strip_prefix("--") == Some(long));
    command.get_arguments().find(is_meant).is_some_and(|arg| arg.get_action().takes_values())
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
        return format!("{}{}", first_line(error), did_you_mean(error));
    };
    let flag = shown.split([' ', '=']).next().unwrap_or(shown);
    let option = find(command, shown);
    let variable = option.as_ref().and_then(Arg::get_env).map(|name| format!(" ({})", name.to_string_lossy()));
    let reason = match error.source().map(ToString::to_string) {
        Some(reason) if is_of_socket_address(&reason) => format!("{reason}; {}", about_socket_address(value)),
        Some(reason) => reason,
        None => allowed_values(error) + &did_you_mean(error),
    };
    format!("{flag}{} = \"{value}\": {reason}", variable.unwrap_or_default())
}

/// What clap takes to be meant.
fn did_you_mean(error: &clap::Error) -> String {
    let kinds = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    match kinds.into_iter().find_map(|kind| error.get(kind)) {
        Some(ContextValue::String(meant)) => format!("; did you mean {meant}?"),
        Some(ContextValue::Strings(meant)) if !meant.is_empty() => format!("; did you mean {}?", meant.join(" or ")),
        _ => String::new(),
    }
}

fn is_of_socket_address(reason: &str) -> bool {
    "".parse::<SocketAddr>().is_err_and(|error| error.to_string() == reason)
}

/// What is wrong with an address to listen on, and what to write. A host is never assumed: which addresses are listened
/// on decides who can connect.
#[must_use]
pub fn about_socket_address(value: &str) -> String {
    let (host, port) = value.rsplit_once(':').unwrap_or(("", value));
    let is_host = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_host(value) {
        let host = if value.contains(':') { format!("[{}]", value.trim_matches(['[', ']'])) } else { value.to_owned() };
        return format!("the port is missing; write {host}:PORT");
    }
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return "write HOST:PORT, as 127.0.0.1:8500".to_owned();
    }
    if port.parse::<u16>().is_err() {
        return "a port is at most 65535".to_owned();
    }
    if host.is_empty() {
        return format!(
            "the host is missing; write 127.0.0.1:{port} to be reached from this machine only, 0.0.0.0:{port} from everywhere"
        );
    }
    format!("{host} is a name; write the IP address to listen on, as 127.0.0.1:{port}")
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
    fn an_option_that_is_nearly_right_is_shown_as_it_is_meant() {
        for (line, hint) in [
            ("sample --lisen 127.0.0.1:1", "unexpected argument '--lisen' found; did you mean --listen?"),
            ("sample --log-format jsn", "it must be one of auto, text, json; did you mean json?"),
        ] {
            let Err(Refused::Mistakes(mistakes)) = parse(line) else { panic!("{line}") };
            assert!(matches!(&mistakes[..], [one] if one.contains(hint)), "{mistakes:?}");
        }
    }

    #[test]
    fn an_address_to_listen_on_that_is_incomplete_says_what_is_missing() {
        for (value, hint) in [
            ("28500", "the host is missing; write 127.0.0.1:28500 to be reached from this machine only, 0.0.0.0:28500"),
            (":28500", "the host is missing; write 127.0.0.1:28500"),
            ("127.0.0.1", "the port is missing; write 127.0.0.1:PORT"),
            ("::1", "the port is missing; write [::1]:PORT"),
            ("localhost:8500", "localhost is a name; write the IP address to listen on, as 127.0.0.1:8500"),
            ("127.0.0.1:85000", "a port is at most 65535"),
            ("nowhere", "write HOST:PORT"),
        ] {
            let Err(Refused::Mistakes(mistakes)) = parse(&format!("sample --listen {value}")) else {
                panic!("{value}")
            };
            assert!(matches!(&mistakes[..], [one] if one.contains(hint)), "{mistakes:?}");
        }
    }

    #[test]
    fn help_is_not_a_mistake() {
        assert!(matches!(parse("sample --help"), Err(Refused::Shown(text)) if text.contains("--ttl")));
    }
}
