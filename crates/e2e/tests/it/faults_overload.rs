//! More is asked for than a service can do: what it can do, it goes on doing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use e2e::{
    fault_suite::{FaultSuite, TEST_INSTANCES},
    latency::{in_ms, quantile},
    scale::{Scale, capacity},
    users::{Answer, Failed, Users},
};
use testkit::wait::{SOON, wait_until};

/// How long a test instance works on a request: with its number of workers its capacity, whatever the machine.
const WORK: Duration = Duration::from_millis(20);
/// A later answer is of no use to a client.
const USEFUL: Duration = Duration::from_secs(1);
/// Requests beyond capacity.
const TIMES: f64 = 5.0;
/// Of the useful answers at capacity, so many percent remain: the aim, and on a machine that is busy with other tests.
const GOODPUT_PERCENT: (f64, f64) = (90.0, 25.0);
/// A request that is shed is answered within that.
const TOLD: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

#[tokio::test]
async fn at_five_times_its_capacity_a_service_with_a_breaker_of_its_size_goes_on_at_its_capacity() {
    let workers: u32 = Scale::chosen().pick(1, 4);
    let fault_suite = FaultSuite::with(|name| match name.starts_with("test-instance") {
        true => vec![
            ("TEST_INSTANCE_WORKERS", workers.to_string()),
            ("TEST_INSTANCE_WORK", format!("{}ms", WORK.as_millis())),
        ],
        false => Vec::new(),
    })
    .await;
    fault_suite.etcd.etcdctl(&[
        "put",
        "config/test-instance",
        &format!(r#"{{"breaker":{{"in_flight_max":{workers}}}}}"#),
    ]);
    wait_until("the policy", SOON, async || {
        let explanation = fault_suite.admin("/explain?service=test-instance").await.unwrap_or_default();
        explanation["policy"]["effective"]["breaker"]["in_flight_max"] == workers
    })
    .await;
    let peak = capacity(fault_suite.address("balance")).await;
    let users = Users::start(fault_suite.address("balance"), TIMES * peak);
    fault_suite.pass(Duration::from_secs(1)).await;
    let from = Instant::now();
    let span = fault_suite.scale.pick(Duration::from_secs(4), Duration::from_secs(20));
    fault_suite.pass(span).await;
    let to = Instant::now();
    let row = fault_suite.row("5 times the capacity of a service, whose breaker allows what it can work on", users);
    let due = || row.answers.iter().filter(|answer| answer.due >= from && answer.due < to);
    let useful: Vec<_> = due().filter(|answer| answer.outcome.is_ok()).map(Answer::latency).collect();
    let useful: Vec<_> = useful.into_iter().filter(|latency| *latency <= USEFUL).collect();
    let goodput = per_second(useful.len(), to - from);
    let shed = due().filter(|answer| answer.outcome == Err(Failed::Status(503)));
    let told = quantile(shed.map(Answer::latency), 0.99);
    let mut otherwise = BTreeMap::new();
    for failed in row.answers.iter().filter_map(|answer| answer.outcome.as_ref().err()) {
        if *failed != Failed::Status(503) {
            *otherwise.entry(failed.to_string()).or_insert(0) += 1;
        }
    }
    let percent = 100.0 * goodput / peak;
    let able = per_second(TEST_INSTANCES.len(), WORK) * f64::from(workers);
    let note = format!(
        "goodput {goodput:.0}/s, {percent:.0} % of the peak of {peak:.0}/s (aim 90 %; {able:.0}/s by its workers), p99 of it {}",
        in_ms(quantile(useful, 0.99))
    );
    let row = row.with_note(note).within("99 % of the others told 503", Some(told), TOLD[0], TOLD[1]);
    let bound = fault_suite.scale.pick(GOODPUT_PERCENT.1, GOODPUT_PERCENT.0);
    let row = row.holds(&format!("goodput is {percent:.0} %, and must be {bound:.0} %"), percent >= bound);
    row.holds(&format!("failed otherwise: {otherwise:?}"), otherwise.is_empty()).check();
}

#[expect(clippy::cast_precision_loss, reason = "requests far below 2^52")]
fn per_second(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}
