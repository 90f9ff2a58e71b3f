//! `registry token new`: makes an API token, and prints both halves.
//!
//! ```text
//! $ registry token new mail-ci --scope mail:register
//! muster_4f0c…                                            ← for the client, shown once
//! mail-ci sha256:9d1e… mail:register                      ← for the tokens file
//! ```

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};
use service_kit::{
    config::{self, EXIT_USAGE},
    tokens::{NewToken, Scope},
};

/// Makes API tokens.
#[derive(Debug, Parser)]
#[command(name = "registry token", version)]
struct TokenCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a token: its first line is for the client, the second one for the tokens file.
    New {
        /// The token's name, as it stands in logs.
        name: String,
        /// What it may do: SERVICE:ACTION; may be given several times. Actions: read, register, write, operate, config.
        #[arg(long = "scope", value_name = "SERVICE:ACTION", required = true)]
        scopes: Vec<Scope>,
        /// For a client that signs its requests instead of sending the token.
        #[arg(long)]
        signing: bool,
    },
}

/// Does what `args` say; the first one is the program's name.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let command = match TokenCommand::try_parse_from(args) {
        Ok(command) => command,
        Err(error) => {
            let _no_terminal = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let Verb::New { name, scopes, signing } = command.verb;
    match NewToken::random(&name, &scopes, signing) {
        Ok(token) => {
            #[expect(clippy::print_stdout, reason = "it is what was asked for")]
            {
                println!("{}\n{}", token.secret, token.line);
            }
            ExitCode::SUCCESS
        }
        Err(mistake) => {
            config::report("registry token", &[mistake]);
            ExitCode::from(EXIT_USAGE)
        }
    }
}
