//! What is measured, a function for each row of the table.

use std::time::Duration;

use crate::{
    access::{self, Feature},
    gateway::{Gateway, Kind},
    harness::{CONNECTIONS, Harness},
    rounds::Rounds,
    shape::{SHAPES, Shape},
    snapshot::{Known, Population},
};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds for each row, at least one.
    pub rounds: usize,
    /// How long each gateway is measured in a round.
    pub duration: Duration,
    /// Idle connections for the memory of one.
    pub idle_connections: u64,
}

/// Processor time of all gateways for every shape.
///
/// # Errors
///
/// As [`Harness::cpu`].
pub fn shapes(
    harness: &mut Harness,
    gateways: &[Gateway],
    extent: Extent,
) -> anyhow::Result<Vec<(Shape, Rounds, Rounds)>> {
    let mut rows: Vec<_> =
        SHAPES.into_iter().map(|shape| (shape, Rounds::new(gateways.len()), Rounds::new(gateways.len()))).collect();
    for _ in 0..extent.rounds {
        for (shape, cpu, per_second) in &mut rows {
            for (index, gateway) in gateways.iter().enumerate() {
                let figure = harness.cpu(gateway, *shape, extent.duration)?;
                cpu.add(index, figure.cpu_us);
                per_second.add(index, figure.per_second);
            }
        }
    }
    Ok(rows)
}

/// What the rounds at a fixed rate said: processor time, p50, p99, p99.9.
pub type FixedRate = [Rounds; 4];

/// Latencies of all at a fixed rate.
///
/// # Errors
///
/// As [`Harness::cpu`].
pub fn fixed_rate(
    harness: &mut Harness,
    gateways: &[Gateway],
    extent: Extent,
    per_second: f64,
) -> anyhow::Result<FixedRate> {
    let mut all: FixedRate = std::array::from_fn(|_| Rounds::new(gateways.len()));
    for _ in 0..extent.rounds {
        for (index, gateway) in gateways.iter().enumerate() {
            let (figure, latencies) = harness.latencies(gateway, per_second, extent.duration)?;
            let figures = [figure.cpu_us, latencies.p50, latencies.p99, latencies.p999];
            all.iter_mut().zip(figures).for_each(|(rounds, figure)| rounds.add(index, figure));
        }
    }
    Ok(all)
}

/// As many requests as listeners' queues hold without refusing any.
pub const BURST: u64 = 2_000;

/// Memory of an idle connection, for each of `kinds`.
///
/// First when few of their requests were under way at the same time, then when [`BURST`] were. What a program needs for
/// a request, and does not give back, is in the second only.
///
/// # Errors
///
/// As [`Harness::idle_bytes`].
pub fn idle(harness: &mut Harness, kinds: &[Kind], extent: Extent) -> anyhow::Result<[Vec<f64>; 2]> {
    let connections = extent.idle_connections;
    let mut row = |at_once| -> anyhow::Result<Vec<f64>> {
        kinds.iter().map(|kind| harness.idle_bytes(*kind, connections, at_once)).collect()
    };
    Ok([row(CONNECTIONS as u64)?, row(BURST)?])
}

/// The populations that are compared; the first is the reference.
pub const POPULATIONS: [(&str, Population); 3] = [
    ("10 instances", Population { instances: 10, others: 0 }),
    ("10, and 10,000 of 1,000 other services", Population { instances: 10, others: 10_000 }),
    ("10,000 instances", Population { instances: 10_000, others: 0 }),
];

/// Processor time of `balance` for a small GET, by how many instances it knows.
///
/// # Errors
///
/// As [`Harness::cpu`].
pub fn populations(harness: &mut Harness, extent: Extent) -> anyhow::Result<Rounds> {
    let start = |(_, population)| harness.gateway(Kind::Balance, Known { population, features: &[] });
    let gateways = POPULATIONS.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    // Ten thousand instances are ten thousand connections, opened before anything is counted.
    harness.cpu(&gateways[2], SHAPES[0], extent.duration)?;
    let mut rounds = Rounds::new(gateways.len());
    for _ in 0..extent.rounds {
        for (index, gateway) in gateways.iter().enumerate() {
            rounds.add(index, harness.cpu(gateway, SHAPES[0], extent.duration)?.cpu_us);
        }
    }
    Ok(rounds)
}

/// Processor time of `balance` for a small GET, by what it asks of clients; the first is the reference.
///
/// # Errors
///
/// As [`Harness::cpu`].
pub fn access(harness: &mut Harness, extent: Extent) -> anyhow::Result<(Vec<Feature>, Rounds)> {
    let features = access::features(harness.folder())?;
    let gateway = harness.gateway(Kind::Balance, Known { features: &features, ..Known::default() })?;
    for feature in &features {
        harness.once(&gateway, feature.request())?;
    }
    let mut rounds = Rounds::new(features.len());
    for _ in 0..extent.rounds {
        for (index, feature) in features.iter().enumerate() {
            rounds.add(index, harness.cpu_of(&gateway, &feature.request(), extent.duration)?.cpu_us);
        }
    }
    Ok((features, rounds))
}

/// At a fixed rate a second of a gateway's time is a few hundredths: so many times as long is measured.
const LONGER: u32 = 3;

/// Processor time of `balance` at [`access::PASSWORDS_PER_SECOND`]: with everything off, and for requests with a name and a
/// password.
///
/// # Errors
///
/// As [`Harness::cpu`].
pub fn passwords(harness: &mut Harness, extent: Extent) -> anyhow::Result<Rounds> {
    let features = access::features(harness.folder())?;
    let gateway = harness.gateway(Kind::Balance, Known { features: &features, ..Known::default() })?;
    let compared: Vec<&Feature> =
        features.iter().filter(|feature| feature.policy.is_none() || feature.name == access::PASSWORD).collect();
    for feature in &compared {
        harness.once(&gateway, feature.request())?;
    }
    let mut rounds = Rounds::new(compared.len());
    for _ in 0..extent.rounds {
        for (index, feature) in compared.iter().enumerate() {
            let duration = extent.duration * LONGER;
            let figure = harness.cpu_at(&gateway, &feature.request(), access::PASSWORDS_PER_SECOND, duration)?;
            rounds.add(index, figure.cpu_us);
        }
    }
    Ok(rounds)
}

/// Half of what nginx manages with small requests, rounded down to hundreds.
#[must_use]
pub fn half_of(per_second: &Rounds, reference: usize) -> f64 {
    let most = per_second.verdict(reference, reference).map_or(0.0, |verdict| verdict.median);
    (most / 200.0).floor().max(1.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_rate_is_half_of_the_reference() {
        let mut rounds = Rounds::new(2);
        rounds.add(0, 99_999.0);
        rounds.add(1, 50_450.0);
        assert!((half_of(&rounds, 1) - 25_200.0).abs() < f64::EPSILON);
    }
}
