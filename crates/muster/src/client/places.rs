//! Where registries, gateways and etcd are: one rule for every command.
//!
//! The first of these that says something counts:
//!
//! 1. the option itself (`--registry`, `--admin`, `--etcd-endpoints`);
//! 2. `--data`, if it was given: the `muster up` that runs there, and nothing else;
//! 3. the variable (`REGISTRY_URLS`, `BALANCE_ADMIN_URL`, `ETCD_ENDPOINTS`);
//! 4. a `muster up` that runs in the folder of `MUSTER_DATA`, or in `data`;
//! 5. the usual port on this machine.
//!
//! What a person writes for this one command is meant more than what was once set for all, and each command says where
//! it looked and why there.

use std::{fmt, path::PathBuf};

use anyhow::bail;
use clap::{ArgMatches, parser::ValueSource};
use url::Url;

use crate::{client::hint::Hint, state::State};

/// The data folder of `muster up`, for its addresses.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DataOption {
    /// The data folder of a running `muster up`, for its addresses.
    #[arg(long, env = "MUSTER_DATA", default_value = "data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
}

/// Who said where something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Said {
    /// The command line.
    Flag,
    /// A variable.
    Variable,
    /// Nothing did: it is the default, or this command has no such option.
    #[default]
    Nothing,
}

/// What was said on the command line and by variables about where to look, and how to say it again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    pub(crate) registry: Said,
    pub(crate) admin: Said,
    pub(crate) etcd: Said,
    pub(crate) data: Said,
    pub(crate) hint: Hint,
}

/// A kind of thing that is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Its option.
    pub(crate) flag: &'static str,
    /// Its variable.
    pub(crate) variable: &'static str,
    /// Where it is when nothing says so.
    pub(crate) default: &'static str,
    /// What a running `muster up` says.
    pub(crate) of_state: fn(&State) -> Vec<String>,
}

/// Registries.
pub(crate) const REGISTRY: Kind = Kind {
    flag: "--registry",
    variable: "REGISTRY_URLS",
    default: "http://127.0.0.1:8500",
    of_state: |state| state.registries.clone(),
};
/// The admin sides of gateways.
pub(crate) const ADMIN: Kind = Kind {
    flag: "--admin",
    variable: "BALANCE_ADMIN_URL",
    default: "http://127.0.0.1:8081",
    of_state: |state| vec![state.admin.clone()],
};
/// The client side of etcd's members.
pub(crate) const ETCD: Kind = Kind {
    flag: "--etcd-endpoints",
    variable: "ETCD_ENDPOINTS",
    default: "http://127.0.0.1:2379",
    of_state: |state| state.etcd_endpoints.clone(),
};

/// Addresses, and why these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// At least one.
    pub(crate) urls: Vec<String>,
    /// Who said so.
    pub(crate) origin: Origin,
}

/// Why a command looks where it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This option or variable says so.
    Said(&'static str),
    /// The `muster up` of this folder says so.
    Up(PathBuf),
    /// Nothing does.
    Default,
}

// === impl Given ===

impl Given {
    /// What `matches`, of one subcommand, were made of.
    pub(crate) fn new(matches: &ArgMatches, hint: Hint) -> Self {
        let said = |id: &str| {
            // An option that this command does not have was not given.
            let is_known = matches.try_contains_id(id).is_ok_and(|is_there| is_there);
            match is_known.then(|| matches.value_source(id)).flatten() {
                Some(ValueSource::CommandLine) => Said::Flag,
                Some(ValueSource::EnvVariable) => Said::Variable,
                _ => Said::Nothing,
            }
        };
        let registry = said("registry");
        let admin = said("admin");
        Self { registry, admin, etcd: said("etcd_endpoints"), data: said("data"), hint }
    }

    /// Where `kind` is; `said` and `urls`: what its own option or variable says.
    ///
    /// # Errors
    /// `--data` was given, and no `muster up` runs there.
    pub(crate) fn find(&self, kind: Kind, said: Said, urls: &[String], data: &DataOption) -> anyhow::Result<Place> {
        let own = |name| Place { urls: urls.to_vec(), origin: Origin::Said(name) };
        let running = || State::read(&data.data).filter(State::is_running);
        let of_up = |state: &State| Place { urls: (kind.of_state)(state), origin: Origin::Up(data.data.clone()) };
        if said == Said::Flag {
            return Ok(own(kind.flag));
        }
        if self.data == Said::Flag {
            let Some(state) = running() else { bail!("no `muster up` runs with its data in {}", data.data.display()) };
            return Ok(of_up(&state));
        }
        if said == Said::Variable {
            return Ok(own(kind.variable));
        }
        let found = running().as_ref().map(of_up);
        Ok(found.unwrap_or_else(|| Place { urls: vec![kind.default.to_owned()], origin: Origin::Default }))
    }
}

/// An address that can be asked.
pub(crate) fn url(text: &str) -> Result<Url, String> {
    let example = REGISTRY.default;
    let url = Url::parse(text.trim()).map_err(|error| format!("{error}; write for example {example}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("it must start with http:// or https:// and a host; write for example {example}"));
    }
    Ok(url)
}

/// As it was given: without the `/` that the parser adds.
pub(crate) fn shown(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

// === impl Place ===

impl Place {
    /// The addresses, parsed.
    ///
    /// # Errors
    /// The state of a `muster up` holds something else.
    pub(crate) fn parsed(&self) -> anyhow::Result<Vec<Url>> {
        let parsed = self.urls.iter().map(|text| url(text).map_err(|error| anyhow::anyhow!("{text}: {error}")));
        parsed.collect()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(name) => f.write_str(name),
            Self::Up(data) => write!(f, "the `muster up` of {}", data.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state;

    fn find(said: Said, data_said: Said, data: &std::path::Path) -> anyhow::Result<Place> {
        let given = Given { data: data_said, ..Given::default() };
        let own = ["http://own:1".to_owned()];
        given.find(REGISTRY, said, &own, &DataOption { data: data.to_owned() })
    }

    #[test]
    fn what_is_said_for_this_command_wins_over_what_was_set_for_all() {
        let dir = tempfile::tempdir().unwrap();
        let from = |said, data_said| find(said, data_said, dir.path()).unwrap().origin;
        assert_eq!(from(Said::Nothing, Said::Nothing), Origin::Default, "nothing runs there");
        assert_eq!(from(Said::Nothing, Said::Variable), Origin::Default);
        assert_eq!(from(Said::Variable, Said::Variable), Origin::Said("REGISTRY_URLS"));
        state::sample().write(dir.path()).unwrap();
        let up = Origin::Up(dir.path().to_owned());
        assert_eq!(from(Said::Nothing, Said::Nothing), up);
        assert_eq!(from(Said::Variable, Said::Nothing), Origin::Said("REGISTRY_URLS"));
        assert_eq!(from(Said::Variable, Said::Flag), up, "--data is written for this command");
        assert_eq!(from(Said::Flag, Said::Flag), Origin::Said("--registry"));
        assert_eq!(find(Said::Nothing, Said::Nothing, dir.path()).unwrap().urls, ["http://127.0.0.1:8500"]);
        let mut ended = state::sample();
        ended.phase = state::Phase::Stopped;
        ended.write(dir.path()).unwrap();
        assert_eq!(from(Said::Nothing, Said::Nothing), Origin::Default, "it has ended");
        let error = find(Said::Variable, Said::Flag, dir.path()).unwrap_err().to_string();
        assert!(error.contains("no `muster up` runs"), "a folder that was named is not passed over: {error}");
    }

    #[test]
    fn an_address_that_cannot_be_asked_says_what_to_write() {
        for text in ["127.0.0.1:8500", "ftp://a", "", "http://"] {
            let error = url(text).unwrap_err();
            assert!(error.contains("http://127.0.0.1:8500"), "{text}: {error}");
        }
        assert_eq!(shown(&url("https://a:8500/").unwrap()), "https://a:8500");
    }
}
