//! etcd loses its leader, its quorum, its data: users notice nothing, and no instance that lives is left out.

use std::time::{Duration, Instant};

use e2e::{
    fault_suite::{FaultSuite, TEST_INSTANCES},
    table_watch::TableWatch,
    users::Users,
};
use testkit::{
    etcd::{EtcdCluster, EtcdConfig},
    wait::{wait_for, wait_until},
};

const LIMIT: Duration = Duration::from_secs(20);
/// In that time each of three instances is picked many times, at any rate that is tried here. A machine that is busy
/// with other tests may hold one up for longer, so that it is ejected for a second.
const WINDOW: Duration = Duration::from_secs(1);

/// Everything is registered as before, once etcd is whole again: the aim, and on a machine that is busy with other
/// tests.
const RECONCILED: [Duration; 2] = [Duration::from_secs(2), LIMIT];
/// The same after a wipe, which is noticed sooner than all have registered again.
const NOTICED: [Duration; 2] = [Duration::from_secs(2), LIMIT];
const COMPLETE: [Duration; 2] = [Duration::from_secs(4), LIMIT];

/// Waits until everything is as before, then checks that no request failed.
async fn users_noticed_nothing(
    fault_suite: &FaultSuite,
    fault: &str,
    users: Users,
    table: TableWatch,
    healed: Instant,
) {
    let reconciled = fault_suite.all_registered(healed, LIMIT).await;
    fault_suite.all_in_rotation().await;
    fault_suite.pass(Duration::from_secs(1)).await;
    let removals = table.stop().await;
    let row = fault_suite.row(fault, users).within("reconciled", reconciled, RECONCILED[0], RECONCILED[1]);
    let idle = row.idle_windows(&TEST_INSTANCES, fault_suite.scale.pick(3 * WINDOW, WINDOW));
    row.without_removals(&removals)
        .none("windows without an answer of one that lived", idle)
        .no_request_failed(None)
        .check();
}

#[tokio::test]
async fn the_leader_is_killed() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let table = fault_suite.table_watch();
    let leader = fault_suite.etcd.leader().await;
    fault_suite.etcd.kill(leader);
    // Longer than the lease of an instance whose heartbeats were lost.
    fault_suite.pass(fault_suite.scale.pick(Duration::from_secs(7), Duration::from_secs(20))).await;
    fault_suite.etcd.restart(leader).await;
    users_noticed_nothing(&fault_suite, "etcd leader killed", users, table, Instant::now()).await;
}

#[tokio::test]
async fn the_leader_is_frozen() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let table = fault_suite.table_watch();
    let leader = fault_suite.etcd.leader().await;
    fault_suite.etcd.freeze(leader);
    fault_suite.pass(fault_suite.scale.pick(Duration::from_secs(7), Duration::from_secs(20))).await;
    fault_suite.etcd.thaw(leader);
    users_noticed_nothing(&fault_suite, "etcd leader stopped (SIGSTOP)", users, table, Instant::now()).await;
}

/// A leader that goes on takes leases for expired that were kept alive at its successor, in about one of three times
/// (etcd issue 15247). Whether it does so here or not: no request fails, and no instance gets everything. `make
/// freezes` counts.
#[tokio::test]
async fn the_leader_is_frozen_and_goes_on_again_and_again() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let table = fault_suite.table_watch();
    for round in 0..fault_suite.scale.pick(3, 10) {
        let leader = fault_suite.etcd.leader().await;
        fault_suite.etcd.freeze(leader);
        fault_suite.pass(Duration::from_millis(3500 + 1500 * (round % 3))).await;
        fault_suite.etcd.thaw(leader);
        fault_suite.pass(Duration::from_secs(3)).await;
        fault_suite.etcd.healthy().await;
    }
    let reconciled = fault_suite.all_registered(Instant::now(), LIMIT).await;
    fault_suite.all_in_rotation().await;
    let removals = table.stop().await;
    let row = fault_suite.row("etcd leader stopped for 3.5 to 6.5 s and thawed, again and again", users);
    // Longer than an ejection on a busy machine, and shorter than it takes until an instance is back by its heartbeat
    // alone.
    let idle = row.idle_windows(&TEST_INSTANCES, 3 * WINDOW / 2);
    let row = row.within("reconciled", reconciled, RECONCILED[0], RECONCILED[1]);
    let note = format!("out of use at {} of {} looks", removals.missing.len() + removals.unused, removals.looks);
    row.with_note(note).none("windows without an answer of one that lived", idle).no_request_failed(None).check();
}

#[tokio::test]
async fn the_leader_is_cut_off_from_the_others_and_still_reached_by_its_clients() {
    let etcd = EtcdCluster::with(EtcdConfig { members: 3, can_be_cut: true, ..EtcdConfig::default() }).await;
    let mut fault_suite = FaultSuite::prepare(etcd, |_| Vec::new());
    fault_suite.run_all().await;
    let users = fault_suite.users().await;
    let table = fault_suite.table_watch();
    let leader = fault_suite.etcd.leader().await;
    fault_suite.etcd.cut_off(leader);
    fault_suite.pass(fault_suite.scale.pick(Duration::from_secs(7), Duration::from_secs(20))).await;
    wait_until("another leader", LIMIT, async || fault_suite.etcd.leaders().await.iter().any(|one| *one != leader))
        .await;
    fault_suite.etcd.heal();
    users_noticed_nothing(&fault_suite, "etcd leader partitioned", users, table, Instant::now()).await;
}

#[tokio::test]
async fn the_quorum_is_lost() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let table = fault_suite.table_watch();
    let leader = fault_suite.etcd.leader().await;
    let lost = [leader, (leader + 1) % 3];
    lost.into_iter().for_each(|member| fault_suite.etcd.kill(member));
    let outage = fault_suite.scale.pick(Duration::from_secs(8), Duration::from_secs(60));
    fault_suite.pass(outage).await;
    lost.into_iter().for_each(|member| fault_suite.etcd.launch(member));
    fault_suite.etcd.healthy().await;
    users_noticed_nothing(
        &fault_suite,
        &format!("etcd quorum lost for {} s", outage.as_secs()),
        users,
        table,
        Instant::now(),
    )
    .await;
}

#[tokio::test]
async fn everything_in_etcd_is_lost() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let table = fault_suite.table_watch();
    let revision = async |fault_suite: &FaultSuite| {
        fault_suite.admin("/v1/table").await.and_then(|table| table["table"]["revision"].as_i64())
    };
    // So that the old revision is ahead also of a new etcd in which all have registered again.
    for limit in 1..=20 {
        let policy = format!(r#"{{"breaker":{{"in_flight_max":{limit}}}}}"#);
        fault_suite.etcd.etcdctl(&["put", "config/nobody", &policy]);
    }
    let before = wait_for("the revision", LIMIT, async || revision(&fault_suite).await.filter(|now| *now > 20)).await;
    fault_suite.etcd.wipe().await;
    let wiped = Instant::now();
    let mut noticed = None;
    while noticed.is_none() && wiped.elapsed() < LIMIT {
        let now = revision(&fault_suite).await;
        noticed = now.is_some_and(|now| now < before).then(|| wiped.elapsed());
        fault_suite.pass(Duration::from_millis(10)).await;
    }
    let complete = fault_suite.all_registered(wiped, LIMIT).await;
    fault_suite.all_in_rotation().await;
    fault_suite.pass(Duration::from_secs(1)).await;
    let removals = table.stop().await;
    let row =
        fault_suite.row("etcd wiped and restarted empty", users).within("noticed", noticed, NOTICED[0], NOTICED[1]);
    let row = row.within("complete", complete, COMPLETE[0], COMPLETE[1]).without_removals(&removals);
    row.no_request_failed(None).check();
}
