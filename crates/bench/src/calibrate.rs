//! What the measuring side costs by itself, beside `wrk`.
//!
//! A load that needs more processor time for a request than the gateway does would measure itself. So: the clients of
//! this program straight on its upstreams, both sides in one thread; then, where it is installed, `wrk` on the same
//! upstreams.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use testkit::process::Process;

use crate::{
    cost::Cost,
    engine::{Clients, Connections, Done, EventLoop, Load, Outcome, Pace, Traffic},
    harness::{CONNECTIONS, Harness},
    machine,
    shape::SHAPES,
};

/// Microseconds of processor time for one small GET.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calibration {
    /// Our clients and upstreams together.
    pub both_us: f64,
    /// Our upstreams alone, under `wrk`.
    pub upstreams_us: Option<f64>,
    /// `wrk` alone.
    pub wrk_us: Option<f64>,
}

/// Measures it.
///
/// # Errors
///
/// The event loop, or `wrk`, cannot run.
pub fn calibrate(harness: &mut Harness, duration: Duration) -> anyhow::Result<Calibration> {
    let (event_loop, upstream, cores) = harness.parts();
    let mut calibration = Calibration { both_us: both(event_loop, upstream, duration)?, ..Calibration::default() };
    if let Some(wrk) = machine::find("wrk") {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(wrk);
        let seconds = format!("-d{}s", duration.as_secs().max(1));
        command.args(["-t1", &format!("-c{CONNECTIONS}"), &seconds, &format!("http://{upstream}/bench/")]);
        let wrk = cores.start_gateway(|| Process::start(&mut command, &folder.path().join("wrk")))??;
        let (upstreams_us, wrk_us) = under_wrk(event_loop, wrk)?;
        (calibration.upstreams_us, calibration.wrk_us) = (Some(upstreams_us), Some(wrk_us));
    }
    Ok(calibration)
}

fn both(event_loop: &mut EventLoop, target: SocketAddr, duration: Duration) -> anyhow::Result<f64> {
    let mut count = Count::default();
    let end = Instant::now() + duration;
    let before = own_cpu()?;
    let mut clients = Clients::new(load(target, Pace::UnderWay(CONNECTIONS)));
    event_loop.run(&mut clients, &mut count, |_, now| now < end)?;
    let used = own_cpu()? - before;
    event_loop.close(clients);
    Ok(each(used, count.0))
}

/// The processor time of the upstreams, and of `wrk`, for one request.
fn under_wrk(event_loop: &mut EventLoop, mut wrk: Process) -> anyhow::Result<(f64, f64)> {
    let answered = |event_loop: &mut EventLoop| event_loop.origin().map_or(0, |origin| origin.answered);
    let before = own_cpu()?;
    let first = answered(event_loop);
    let mut cost = Cost::default();
    let mut no_clients = Clients::new(load(([127, 0, 0, 1], 1).into(), Pace::InAll(0, 0)));
    let mut next_look = Instant::now();
    event_loop.run(&mut no_clients, &mut Count::default(), |_, now| {
        if now < next_look {
            return true;
        }
        next_look = now + Duration::from_millis(20);
        let is_running = wrk.is_running();
        // What it has used can be read only while it runs; the last reading is 20 ms short at most.
        cost = Cost::of(wrk.id()).ok().filter(|new| new.cpu >= cost.cpu).unwrap_or(cost);
        is_running
    })?;
    let requests = answered(event_loop) - first;
    Ok((each(own_cpu()? - before, requests), each(cost.cpu, requests)))
}

fn load(target: SocketAddr, pace: Pace) -> Load {
    let patience = Duration::from_secs(5);
    Load { target, pace, connections: Connections::Kept, connections_max: CONNECTIONS, patience, spin: false }
}

/// Processor time of this process without its children.
fn own_cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: nix::sys::time::TimeVal| nix::sys::time::TimeValLike::num_microseconds(&time);
    let used = micros(usage.user_time()) + micros(usage.system_time());
    Ok(Duration::from_micros(u64::try_from(used).context("processor time is never negative")?))
}

#[expect(clippy::cast_precision_loss, reason = "requests far below 2^52")]
fn each(used: Duration, requests: u64) -> f64 {
    used.as_secs_f64() * 1e6 / requests.max(1) as f64
}

#[derive(Debug, Default)]
struct Count(u64);

impl Traffic for Count {
    fn write(&mut self, _: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&SHAPES[0].request());
    }

    fn done(&mut self, done: Done<'_>) {
        self.0 += u64::from(matches!(done.outcome, Outcome::Answered(200, _)));
    }
}
