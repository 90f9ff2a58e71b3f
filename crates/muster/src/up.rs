//! `muster up`: the whole suite on this machine until Ctrl-C.
//!
//! It reads top to bottom: what was asked → the folder, ours alone → what an earlier run left → ports → what runs →
//! start → ready → a signal → stop in order.
//!
//! | file | what it settles |
//! |---|---|
//! | [`options`] | the options of the command |
//! | [`data_folder`] | the one folder in which everything lies, and the lock that gives it to one `muster up` at a time |
//! | [`stale_processes`] | processes that a killed `muster up` left behind |
//! | [`programs`], [`ports`] | the service binaries and etcd, or how to get them; the usual ports, or free ones |
//! | [`topology`], [`child_environment`], [`mod@etcd`] | what runs: programs, arguments, environment. Pure |
//! | [`parent_death`] | a child that ends when `muster` does, however `muster` ends |
//! | [`child`] | one life of one process |
//! | [`supervisor`], [`restart_policy`], [`readiness`] | keeps one process running; when to give up (pure); whether it answers |
//! | [`process_table`], [`suite`] | what is known about each process; starting and stopping all in order |
//! | [`state_writer`], [`signals`] | writes that to `muster.json`; what asks for the end |
//! | [`console`], [`log_prefix`] | `mail-1 │ …`, without ever waiting for a slow terminal |
//! | [`banner`] | what runs where, and what to try |

mod banner;
mod child;
mod child_environment;
mod console;
mod data_folder;
mod etcd;
mod log_prefix;
pub(crate) mod options;
pub(crate) mod parent_death;
mod ports;
mod process_table;
mod programs;
mod readiness;
mod restart_policy;
mod signals;
mod stale_processes;
mod state_writer;
mod suite;
mod supervisor;
mod topology;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    environment::Environment,
    state::{Phase, State},
    up::{
        console::Console,
        data_folder::DataFolder,
        etcd::log_level::EtcdLogLevel,
        options::UpOptions,
        ports::{HeldPorts, Ports, USUAL},
        process_table::{Condition, Entry, ProcessTable},
        programs::Programs,
        readiness::Prober,
        signals::Signals,
        suite::Suite,
        supervisor::Shared,
        topology::Settings,
    },
};

/// Why the suite ends.
enum End {
    /// A signal asked for it.
    Signal(&'static str),
    /// Everything was given up on.
    NothingLeft,
}

/// Runs the suite. Exit code 0 after an orderly end, 1 when patience ran out or nothing was left running.
pub(crate) async fn run(options: &UpOptions) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let environment: Environment = std::env::vars_os().collect();
    let programs = Programs::find(&folder_of_programs(options)?, &options.etcd, path(&environment))?;
    let data = DataFolder::open(&options.data)?;
    let console = Console::start(names(), &environment);

    let last = State::read(data.path());
    if let Some(last) = &last {
        stale_processes::stop(last, &console).await;
    }
    let mut held = HeldPorts::default();
    let ports = Ports::choose(&last.map(|last| last.ports).unwrap_or_default(), |port| held.take(port))?;
    let settings = Settings {
        programs: &programs,
        ports: &ports,
        data: &data,
        environment: &environment,
        etcd_log: options.etcd_log,
    };
    announce(&settings, &console);

    let shared = Arc::new(Shared {
        console: console.clone(),
        process_table: ProcessTable::new(&settings.processes()),
        prober: Prober::new(),
        grace: options.grace,
        // With a more detailed level than the default, everything is shown.
        is_quiet: !matches!(options.etcd_log, EtcdLogLevel::Debug | EtcdLogLevel::Info),
        force: CancellationToken::new(),
    });
    let state_writer = state_writer::start(&shared, &settings);
    let mut suite = Suite::new(Arc::clone(&shared), held);

    let end = tokio::select! {
        end = operate(&mut suite, &shared, &settings, options, begun) => end,
        signal = signals.next() => End::Signal(signal),
    };
    let code = stop(suite, &shared, &mut signals, &end).await;
    // The last state is written; that it was `stopped` tells the next start that nothing was left behind.
    let _ = state_writer.await;
    console.flush();
    Ok(code)
}

/// Says what differs from the usual setup.
fn announce(settings: &Settings<'_>, console: &Console) {
    console.say(&format!("data in {}", settings.data.path().display()));
    for (of, usual, port) in settings.ports.moved() {
        console.say(&format!("port {usual} is taken: {of} uses {port} instead"));
    }
    let not_used = child_environment::not_used(settings.environment);
    if !not_used.is_empty() {
        console.say(&format!("not used here, because every process gets its own: {}", not_used.join(", ")));
    }
    console.say("starting etcd, then the registries, then everything else");
}

/// Starts everything, prints the banner when it is ready, and goes on until nothing is left.
async fn operate(
    suite: &mut Suite,
    shared: &Shared,
    settings: &Settings<'_>,
    options: &UpOptions,
    begun: Instant,
) -> End {
    let mut ready = std::pin::pin!(async {
        suite.start(settings).await;
        wait_until_ready(shared, settings).await;
    });
    let gone = shared
        .process_table
        .wait_until(|known| known.processes.iter().all(|entry| matches!(entry.condition, Condition::GivenUp(_))));
    // Once something was given up on and the rest is ready, there is nothing more to wait for.
    let settled = shared.process_table.wait_until(|known| {
        let is_given_up = |entry: &Entry| matches!(entry.condition, Condition::GivenUp(_));
        known.processes.iter().all(Entry::is_settled) && known.processes.iter().any(is_given_up)
    });
    let print_banner = || shared.console.plain(&banner::text(&shared.process_table.now(), settings, options));
    let operate = async {
        let is_ready = tokio::select! {
            () = &mut ready => true,
            () = settled => false,
            () = sleep(options.ready_within) => false,
        };
        if is_ready {
            say_ready(shared, begun);
            print_banner();
        } else {
            say_not_ready(shared, settings, begun).await;
            print_banner();
            ready.await;
            say_ready(shared, begun);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = operate => unreachable!("it goes on for ever"),
        () = gone => End::NothingLeft,
    }
}

fn say_ready(shared: &Shared, begun: Instant) {
    let after = begun.elapsed();
    shared.process_table.set_ready(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    shared.console.say(&format!("ready in {:.1} s", after.as_secs_f64()));
}

async fn say_not_ready(shared: &Shared, settings: &Settings<'_>, begun: Instant) {
    let mut reasons = shared.process_table.now().not_ready();
    if reasons.is_empty() {
        for url in through_the_gateway(settings) {
            reasons.extend(shared.prober.ask(&url).await.err());
        }
    }
    shared.console.say(&format!("not everything is ready after {:.1} s:", begun.elapsed().as_secs_f64()));
    reasons.iter().for_each(|reason| shared.console.say(&format!("  {reason}")));
}

/// Everything says that it is ready, and a request through the gateway reaches both services.
async fn wait_until_ready(shared: &Shared, settings: &Settings<'_>) {
    shared
        .process_table
        .wait_until(|known| known.processes.iter().all(|entry| entry.condition == Condition::Ready))
        .await;
    for url in through_the_gateway(settings) {
        shared.prober.wait_for(&url, |_| ()).await;
    }
}

/// What the gateway answers with 200 once its table has both services; 503, with the reason, before that.
fn through_the_gateway(settings: &Settings<'_>) -> [String; 2] {
    ["mail", "userlist"].map(|service| format!("{}/{service}/healthz", settings.gateway()))
}

/// Stops everything in order; a second signal ends the patience.
async fn stop(suite: Suite, shared: &Shared, signals: &mut Signals, end: &End) -> ExitCode {
    let begun = Instant::now();
    shared.process_table.set_phase(Phase::Stopping);
    match end {
        End::Signal(name) => shared.console.say(&format!("{name}: stopping everything in order; once more: at once")),
        End::NothingLeft => shared.console.say("nothing is left running"),
    }
    let mut stop = std::pin::pin!(suite.stop());
    let mut code = match end {
        End::Signal(_) => ExitCode::SUCCESS,
        End::NothingLeft => ExitCode::FAILURE,
    };
    tokio::select! {
        () = &mut stop => {}
        name = signals.next() => {
            shared.console.say(&format!("{name} again: killing what is left"));
            shared.force.cancel();
            code = ExitCode::FAILURE;
            stop.await;
        }
    }
    shared.console.say(&format!("stopped in {:.1} s", begun.elapsed().as_secs_f64()));
    shared.process_table.set_phase(Phase::Stopped);
    code
}

fn folder_of_programs(options: &UpOptions) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &options.bin_dir {
        return folder.canonicalize().with_context(|| format!("cannot use --bin-dir {}", folder.display()));
    }
    let own = std::env::current_exe()
        .context("cannot find out where muster is; say with --bin-dir where the services are")?;
    Ok(own.parent().map(Path::to_owned).unwrap_or_default())
}

fn path(environment: &Environment) -> Option<&std::ffi::OsStr> {
    environment.get(std::ffi::OsStr::new("PATH")).map(std::ffi::OsString::as_os_str)
}

/// Uses that are no process of their own.
const SECOND_PORTS: [&str; 3] = ["balance-admin", "dns-1", "dns-2"];

/// The names of all processes, for the console, which is there before anything else is settled.
fn names() -> Vec<String> {
    USUAL.iter().map(|(name, _)| (*name).to_owned()).filter(|name| !SECOND_PORTS.contains(&name.as_str())).collect()
}
