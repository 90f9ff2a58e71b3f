//! `userlist import` and `userlist export`: many users at once, from and to a file.
//!
//! They work on the database, and not through a running instance: no request has to be bounded, nothing depends on who
//! is registered, and they work before the first instance has started. Instances may run meanwhile; SQLite and MySQL
//! both let others read and write between two batches.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;
use discovery::FieldError;
use futures::TryStreamExt as _;
use prometheus_client::registry::Registry;
use service_kit::service::Failure;
use tokio::{io::AsyncWriteExt as _, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    store::{DatabaseOptions, Filter, Store},
    transfer::{Cause, ColumnName, Delimiter, Export, Format, Import, ImportOptions, Records, Report, Stopped, export},
    user::{Tag, Tags},
};

/// How long to wait for a database that is not there yet; one that is brought up to date takes as long as it takes.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Puts every user of a file, and prints a report as JSON. Exits with 1 when a line was refused.
    Import {
        /// The file; - for standard input.
        file: PathBuf,
        /// How it is written. Default: what its name ends with.
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// Only reports what would be done.
        #[arg(long)]
        dry_run: bool,
        /// What separates the cells of a table.
        #[arg(long, value_enum, default_value_t)]
        delimiter: Delimiter,
        /// A column of a table that has another name than the field, as "email:E-mail address"; can be repeated. Fields
        /// are name, email, status, tags, attributes and attributes.KEY. One column may be several.
        #[arg(long = "column", value_name = "FIELD:HEADER")]
        columns: Vec<ColumnName>,
        /// Passes over columns that mean nothing here.
        #[arg(long)]
        ignore_columns: bool,
        /// A tag that every user of the file gets beside those that they have; can be repeated.
        #[arg(long = "add-tag", value_name = "TAG")]
        added_tags: Vec<Tag>,
    },
    /// Writes all users into a file.
    Export {
        /// The file, which must not be there yet; - for standard output.
        file: PathBuf,
        /// How to write it. Default: what its name ends with.
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// For a spreadsheet, and not to be imported again: what it would take for a formula begins with ', and it sees
        /// that the file is UTF-8.
        #[arg(long)]
        spreadsheet: bool,
    },
}

// === impl Command ===

impl Command {
    /// Does it, until it is done or `shutdown` is cancelled.
    ///
    /// # Errors
    /// It was not done, or not completely; the text says what was.
    pub async fn run(self, database: &DatabaseOptions, shutdown: CancellationToken) -> Result<(), Failure> {
        let kind = database.kind()?;
        let (store, monitor) = Store::new(&kind, database.limits(), &mut Registry::default());
        let close = CancellationToken::new();
        let monitoring = tokio::spawn(monitor.run(close.clone()));
        let done = match wait_until_open(store.clone(), &shutdown).await {
            Ok(()) => self.with(&store, &shutdown).await,
            Err(failure) => Err(failure),
        };
        close.cancel();
        monitoring.await?;
        done
    }

    async fn with(&self, store: &Store, shutdown: &CancellationToken) -> Result<(), Failure> {
        match self {
            Self::Import { file, dry_run, .. } => {
                let records = Records::open(&self.import_options(file)?, opened(file).await?).await?;
                import(store, records, *dry_run, shutdown).await
            }
            Self::Export { file, format, spreadsheet } => {
                let how = Export { format: named(*format, file)?, is_for_spreadsheet: *spreadsheet };
                if how.is_for_spreadsheet && how.format != Format::Csv {
                    return Err("--spreadsheet is about tables; leave it out, or give --format csv".into());
                }
                let saving = save(store.clone(), file, how);
                shutdown
                    .run_until_cancelled(saving)
                    .await
                    .unwrap_or_else(|| Err("interrupted; the file is not complete".into()))
            }
        }
    }

    /// # Errors
    /// The options contradict each other.
    fn import_options(&self, file: &Path) -> Result<ImportOptions, Failure> {
        let Self::Import { format, delimiter, columns, ignore_columns, added_tags, .. } = self else {
            return Ok(ImportOptions::default());
        };
        let options = ImportOptions {
            format: named(*format, file)?,
            delimiter: *delimiter,
            columns: columns.clone(),
            ignore_columns: *ignore_columns,
            added_tags: Tags::parse(added_tags.iter().map(Tag::as_str))
                .map_err(|error| mistake(&error.under("add_tag")))?,
        };
        match options.mistakes().first() {
            Some(error) => Err(mistake(error)),
            None => Ok(options),
        }
    }
}

fn mistake(error: &FieldError) -> Failure {
    format!("--{}: {}", error.field.replace('_', "-"), error.reason).into()
}

async fn opened(file: &Path) -> Result<tokio::fs::File, Failure> {
    if file == Path::new("-") {
        return Ok(standard(&io::stdin())?);
    }
    let opened = tokio::fs::File::open(file).await;
    opened.map_err(|error| format!("cannot open {}: {error}", file.display()).into())
}

fn named(format: Option<Format>, file: &Path) -> Result<Format, Failure> {
    let format = format.or_else(|| Format::of_file(file));
    format.ok_or_else(|| "give --format csv or ndjson: the file's name does not say which".into())
}

/// Standard input or output, as a file.
fn standard(stream: &impl AsFd) -> io::Result<tokio::fs::File> {
    Ok(tokio::fs::File::from_std(stream.as_fd().try_clone_to_owned()?.into()))
}

async fn wait_until_open(mut store: Store, shutdown: &CancellationToken) -> Result<(), Failure> {
    let opening = async { while store.outage().is_some() && store.outage_changed().await {} };
    let opening = tokio::time::timeout(OPEN_DEADLINE, shutdown.run_until_cancelled(opening));
    match opening.await {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err("interrupted; nothing was done".into()),
        Err(_) => {
            let reason = store.outage().map_or_else(String::new, |outage| outage.reason);
            Err(format!("the database cannot be used: {reason}; nothing was done").into())
        }
    }
}

async fn import(
    store: &Store,
    records: Records,
    is_dry_run: bool,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    let mut progress = Progress::start();
    let imported = Import::run(store, records, is_dry_run, shutdown, |report| progress.report(report.read())).await;
    progress.end();
    match imported {
        Ok(report) if report.refused == 0 => print(&report),
        Ok(report) => {
            print(&report)?;
            Err(format!("{} lines were refused; the others are stored", report.refused).into())
        }
        Err(stopped) => {
            let Stopped { report, cause } = *stopped;
            print(&report)?;
            let advice =
                format!("everything up to line {} is stored; import the same file again", report.stored_to_line);
            Err(match cause {
                Cause::Unreadable(error) => {
                    format!("the file {cause}: {error}; {advice}", cause = "cannot be read any further")
                }
                Cause::Store(error) => format!("{error}; {advice}"),
                Cause::Interrupted => format!("interrupted; {advice}"),
            }
            .into())
        }
    }
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)?;
    Ok(())
}

async fn save(store: Store, file: &Path, how: Export) -> Result<(), Failure> {
    let mut output: Box<dyn tokio::io::AsyncWrite + Send + Unpin> = if file == Path::new("-") {
        Box::new(standard(&io::stdout())?)
    } else {
        // An export that fails half-way must not cost the one from yesterday.
        let created = tokio::fs::File::create_new(file).await;
        Box::new(created.map_err(|error| format!("cannot create {}: {error}", file.display()))?)
    };
    let mut steps = Box::pin(export(store, Filter::default(), how));
    while let Some(bytes) = steps.try_next().await? {
        output.write_all(&bytes).await?;
    }
    output.flush().await?;
    Ok(())
}

/// One line on a terminal that is written again and again; in a log, a line every ten seconds.
struct Progress {
    started: Instant,
    reported_at: Instant,
    is_terminal: bool,
}

impl Progress {
    fn start() -> Self {
        let now = Instant::now();
        Self { started: now, reported_at: now, is_terminal: io::stderr().is_terminal() }
    }

    fn report(&mut self, lines: u64) {
        let interval = if self.is_terminal { PROGRESS_INTERVAL } else { 20 * PROGRESS_INTERVAL };
        if self.reported_at.elapsed() < interval {
            return;
        }
        self.reported_at = Instant::now();
        let per_second = lines as f64 / self.started.elapsed().as_secs_f64();
        if self.is_terminal {
            let _not_a_terminal_any_more = write!(io::stderr(), "\r{lines} users, {per_second:.0} a second ");
        } else {
            tracing::info!(users = lines, per_second = per_second as u64, "importing");
        }
    }

    fn end(&self) {
        if self.is_terminal {
            let _not_a_terminal_any_more = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
