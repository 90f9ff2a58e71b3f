//! The table as text: Markdown, so that it can be pasted into doc/performance.md.

use crate::{
    access::{Feature, PASSWORDS_PER_SECOND},
    calibrate::Calibration,
    changes::{PER_SECOND, Row},
    harness::CONNECTIONS,
    machine,
    rounds::Rounds,
    rows::{BURST, Extent, FixedRate, POPULATIONS},
    shape::Shape,
};

/// The column that the others are compared with.
pub const REFERENCE: usize = 1;

/// What was measured on, and how much.
pub fn facts(extent: Extent) {
    for (name, value) in machine::facts() {
        println!("- {name}: {value}");
    }
    println!("- {} rounds of {:?} for each gateway and row", extent.rounds, extent.duration);
}

/// What the measuring side costs.
pub fn calibration(calibration: Calibration) {
    print!("- clients and upstreams together: {:.1} µs a request", calibration.both_us);
    if let (Some(upstreams), Some(wrk)) = (calibration.upstreams_us, calibration.wrk_us) {
        let clients = calibration.both_us - upstreams;
        print!(" (upstreams {upstreams:.1}, so clients {clients:.1}; wrk in their place {wrk:.1})");
    }
    println!();
}

/// Processor time by shape; `columns` are the gateways' names.
pub fn shapes(rows: &[(Shape, Rounds, Rounds)], columns: &[&str]) {
    println!(
        "\n## Processor time for a request\n\nRatio to {} in the same rounds, median (smallest–largest); µs; requests a second.\n",
        columns[REFERENCE]
    );
    heading("request", columns);
    for (shape, cpu, per_second) in rows {
        print!("| {} |", shape.name);
        for gateway in 0..columns.len() {
            let rate = per_second.verdict(gateway, REFERENCE).map_or(f64::NAN, |verdict| verdict.median);
            print!(" {}; {rate:.0}/s |", cell(cpu, gateway));
        }
        println!();
    }
}

/// Latencies at a fixed rate; `columns` are the gateways' names.
pub fn fixed_rate(all: &FixedRate, per_second: f64, columns: &[&str]) {
    println!(
        "\n## At a fixed rate of {per_second:.0} requests a second\n\nFrom when each request was due to its last byte.\n"
    );
    heading("what", columns);
    for (name, rounds) in ["processor time", "p50", "p99", "p99.9"].into_iter().zip(all) {
        print!("| {name} |");
        for gateway in 0..columns.len() {
            print!(" {} |", cell(rounds, gateway));
        }
        println!();
    }
}

/// Memory of an idle connection; `columns` are the gateways' names.
pub fn idle(rows: &[Vec<f64>; 2], extent: Extent, columns: &[&str]) {
    println!(
        "\n## Memory of an idle connection\n\nGrowth of resident memory over {} connections that served one request each.\n",
        extent.idle_connections
    );
    heading("what", columns);
    let names = [format!("KiB, {CONNECTIONS} used at a time"), format!("KiB, {BURST} used at a time")];
    for (name, row) in names.iter().zip(rows) {
        print!("| {name} |");
        row.iter().for_each(|bytes| print!(" {:.1} |", bytes / 1024.0));
        println!();
    }
}

/// Processor time of `balance` by how many instances there are.
pub fn populations(rounds: &Rounds) {
    println!("\n## Instances that balance knows\n\nSmall GET; ratio to the first row in the same rounds.\n");
    println!("| instances | ratio; processor time |\n|---|---|");
    for (index, (name, _)) in POPULATIONS.iter().enumerate() {
        if let Some(verdict) = rounds.verdict(index, 0) {
            let (low, high) = verdict.range;
            println!("| {name} | {:.2} ({low:.2}–{high:.2}); {:.1} µs |", verdict.ratio, verdict.median);
        }
    }
}

/// Processor time of `balance` by what it asks of clients.
pub fn access(features: &[Feature], rounds: &Rounds) {
    println!(
        "\n## What is asked of clients\n\nSmall GET; what it costs more than with everything off, in the same rounds.\n"
    );
    println!("| policy | more, median (smallest–largest) | aim | processor time |\n|---|---|---|---|");
    for (index, feature) in features.iter().enumerate() {
        let (Some(difference), Some(verdict)) = (rounds.difference(index, 0), rounds.verdict(index, 0)) else { return };
        let (low, high) = difference.range;
        let aim = feature.aim_us.map_or_else(|| "–".to_owned(), |aim| format!("{aim:.0} µs"));
        let more = format!("{:.1} ({low:.1}–{high:.1}) µs", difference.median);
        println!("| {} | {more} | {aim} | {:.1} µs |", feature.name, verdict.median);
    }
}

/// Processor time of requests with a name and a password, at a fixed rate.
pub fn passwords(rounds: &Rounds) {
    let Some(verdict) = rounds.verdict(1, 0) else { return };
    let (low, high) = verdict.range;
    println!(
        "\n{PASSWORDS_PER_SECOND:.0} requests a second of one name, to as many with everything off in the same rounds: {:.2} \
         ({low:.2}–{high:.2}); {:.1} µs a request.",
        verdict.ratio, verdict.median
    );
}

/// Processor time of `balance` for a change of one instance, of one build or of two: what stands above the rows, each
/// of which takes a while.
pub fn changes(builds: usize) {
    println!(
        "\n## What a change costs\n\nProcessor time for each of {PER_SECOND} changes a second, above what is used while nothing \
         changes, median (smallest–largest); what is used while nothing changes. Active checks are off.\n"
    );
    let columns = ["services", "changes/s", "balance", "the other build", "ratio to the other build"];
    heading("instances", &columns[..if builds > 1 { 5 } else { 3 }]);
}

/// One row of them.
pub fn changes_of(row: &Row, builds: usize) {
    print!("| {} | {} | {:.0} |", row.crowd.instances, row.crowd.services, row.per_second);
    (0..builds).for_each(|build| print!(" {} |", change(row, build)));
    if let Some(verdict) = (builds > 1).then(|| row.change_ms.verdict(0, 1)).flatten() {
        let (low, high) = verdict.range;
        print!(" {:.2} ({low:.2}–{high:.2}) |", verdict.ratio);
    }
    println!();
}

fn change(row: &Row, build: usize) -> String {
    let (Some(change), Some(idle)) = (row.change_ms.spread(build), row.idle_ms.spread(build)) else {
        return "–".to_owned();
    };
    let (low, high) = change.range;
    format!("{:.2} ({low:.2}–{high:.2}) ms; {:.0} ms/s", change.median, idle.median)
}

fn heading(first: &str, columns: &[&str]) {
    println!("| {first} | {} |\n|---{}|", columns.join(" | "), "|---".repeat(columns.len()));
}

fn cell(rounds: &Rounds, gateway: usize) -> String {
    let Some(verdict) = rounds.verdict(gateway, REFERENCE) else { return "–".to_owned() };
    let (low, high) = verdict.range;
    format!("{:.2} ({low:.2}–{high:.2}); {:.1} µs", verdict.ratio, verdict.median)
}
