//! How many instructions a request costs outside the kernel, counted by valgrind's callgrind.
//!
//! Processor time drifts with the machine and with what else runs on it; a count of instructions does not. What it does
//! not see: the kernel's part, which is three quarters of the time, and how long an instruction takes.
//!
//! The gateway runs twice for each kind of request, with few requests and with many; the difference, divided by how
//! many more they were, is free of what starting and ending cost. Only functions of a program that has its symbols have
//! names: `CARGO_PROFILE_RELEASE_STRIP=none cargo build --release --workspace --bin balance --target-dir
//! target/symbols`.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{
    engine::{Connections, Load, Pace},
    harness::Harness,
    machine,
    shape::{SHAPES, Shape},
    uniform::Uniform,
};

/// Requests of the short run, and of the long one.
const REQUESTS: [u64; 2] = [800, 4800];
/// Under way at the same time.
const AT_ONCE: u64 = 8;
/// A counted program is some fifty times slower.
const PATIENCE: Duration = Duration::from_secs(60);
/// Functions that are printed.
const FUNCTIONS: usize = 20;

/// Instructions of one run, by function.
type Counts = HashMap<String, u64>;

/// What a request costs.
#[derive(Debug)]
pub struct Cost {
    /// Instructions for each request.
    pub all: u64,
    /// The functions that cost most, themselves without what they call.
    pub functions: Vec<(String, u64)>,
}

/// Prints what requests cost in instructions, of each of the `programs`, which are builds of `balance`.
///
/// # Errors
///
/// valgrind is not installed, a program did not start, a request failed.
pub fn print(harness: &mut Harness, programs: &[PathBuf]) -> anyhow::Result<()> {
    ensure!(machine::find("valgrind").is_some(), "missing: valgrind; install it: apt-get install valgrind");
    println!("\n## Instructions for a request\n\nOutside the kernel, by callgrind.\n");
    for program in programs {
        println!("\n{}:\n\n| request | instructions |\n|---|---|", program.display());
        let shapes = SHAPES.iter().filter(|shape| shape.connections == Connections::Kept);
        let costs = shapes.map(|shape| Ok((shape.name, cost(harness, program, *shape)?)));
        let costs = costs.collect::<anyhow::Result<Vec<(&str, Cost)>>>()?;
        costs.iter().for_each(|(name, cost)| println!("| {name} | {} |", cost.all));
        let (name, first) = &costs[0];
        println!("\n| function, for a {name} | instructions |\n|---|---|");
        first.functions.iter().for_each(|(name, count)| println!("| `{name}` | {count} |"));
    }
    Ok(())
}

/// What a request of this kind costs.
///
/// # Errors
///
/// As [`print()`].
pub fn cost(harness: &mut Harness, program: &Path, shape: Shape) -> anyhow::Result<Cost> {
    let few = counts(harness, program, shape, REQUESTS[0])?;
    let many = counts(harness, program, shape, REQUESTS[1])?;
    Ok(difference(&few, &many, REQUESTS[1] - REQUESTS[0]))
}

fn difference(few: &Counts, many: &Counts, requests: u64) -> Cost {
    let each = |name: &String, count: &u64| count.saturating_sub(few.get(name).copied().unwrap_or(0)) / requests;
    let mut functions: Vec<_> = many.iter().map(|(name, count)| (name.clone(), each(name, count))).collect();
    functions.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    functions.truncate(FUNCTIONS);
    let sum = |counts: &Counts| counts.values().sum::<u64>();
    Cost { all: sum(many).saturating_sub(sum(few)) / requests, functions }
}

/// One run with so many requests.
fn counts(harness: &mut Harness, program: &Path, shape: Shape, requests: u64) -> anyhow::Result<Counts> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("counts");
    let gateway = harness.counted(program, &file)?;
    let load = Load {
        target: gateway.address,
        pace: Pace::InAll(requests, AT_ONCE),
        connections: shape.connections,
        connections_max: usize::try_from(AT_ONCE)?,
        patience: PATIENCE,
        spin: false,
    };
    let mut uniform = Uniform::new(shape.request());
    let (event_loop, ..) = harness.parts();
    if let Some(origin) = event_loop.origin() {
        origin.set_body(shape.response_bytes);
    }
    let clients = event_loop.run_to_end(load, &mut uniform)?;
    event_loop.close(clients);
    uniform.all_succeeded(&gateway)?;
    gateway.end(PATIENCE)?;
    let text = fs::read_to_string(&file).context("valgrind has written no counts")?;
    Ok(by_function(&text))
}

/// Reads callgrind's file (valgrind's manual, "Callgrind Format Specification"): what each function cost by itself.
///
/// Names are numbered, and spelled out where they come first, which may be as a callee (`cfn=`). The line behind
/// `calls=` is what the call cost in all, which is counted where the callee spends it.
fn by_function(text: &str) -> Counts {
    let (mut names, mut counts, mut function) = (HashMap::new(), Counts::new(), "");
    let mut is_call = false;
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("cfn=") {
            name_of(named, &mut names);
        } else if let Some(named) = line.strip_prefix("fn=") {
            function = name_of(named, &mut names);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
            if !std::mem::take(&mut is_call) {
                *counts.entry(function.to_owned()).or_default() += cost;
            }
        }
    }
    counts
}

/// The name of `(7) name`, or of `(7)` when it was spelled out before.
fn name_of<'t>(named: &'t str, names: &mut HashMap<&'t str, &'t str>) -> &'t str {
    match named.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(named).copied().unwrap_or(named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: &str = "version: 1\npositions: line\nevents: Ir\nsummary: 1000\n\n\
        fl=(1) a.rs\nfn=(1) parse\n16 400\n+3 20\ncfn=(2) copy\ncalls=5 30\n+1 500\n* 7\n\n\
        fn=(2)\n30 450\nfi=(2) b.rs\n-2 50\nfe=(1)\n31 3\n\ntotals: 1000\n";

    #[test]
    fn what_a_function_calls_is_not_its_own_cost() {
        let counts = by_function(COUNTS);
        assert_eq!((counts.len(), counts["parse"], counts["copy"]), (2, 427, 503));
    }

    #[test]
    fn what_both_runs_have_is_not_the_requests() {
        let few = by_function(COUNTS);
        let many = by_function(&COUNTS.replace("16 400", "16 1400").replace("30 450", "30 5450"));
        let cost = difference(&few, &many, 10);
        assert_eq!(cost.all, 600);
        assert_eq!(cost.functions, [("copy".to_owned(), 500), ("parse".to_owned(), 100)]);
    }
}
