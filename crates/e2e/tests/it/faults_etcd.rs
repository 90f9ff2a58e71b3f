//! etcd loses its leader, its quorum, its data: users notice nothing, and no instance that lives is left out.

use std::time::{Duration, Instant};

use e2e::{
    fault_row::FaultRow,
    rig::{Rig, WITNESSES},
    users::Users,
};
use testkit::etcd::{EtcdCluster, EtcdConfig};

const LIMIT: Duration = Duration::from_secs(20);
/// In that time each of three instances is picked many times, at any rate that is tried here.
const WINDOW: Duration = Duration::from_secs(1);

/// Waits until everything is as before, then checks that nobody noticed anything.
async fn nobody_noticed(rig: &Rig, fault: &str, users: Users, healed: Instant) {
    let reconciled = rig.all_registered(healed, LIMIT).await;
    rig.all_in_rotation().await;
    rig.pass(Duration::from_secs(1)).await;
    let row = rig.row(fault, users);
    let idle = row.idle_windows(&WITNESSES, WINDOW);
    let row: FaultRow = row.with("reconciled", reconciled).with_note(format!("{idle} false removals"));
    row.check(None);
    assert_eq!(idle, 0, "{row}\nevery instance lived and must have been used in every second");
    assert!(reconciled.is_some(), "{row}");
}

#[tokio::test]
async fn the_leader_is_killed() {
    let mut rig = Rig::start().await;
    let users = rig.users().await;
    let leader = rig.etcd.leader().await;
    rig.etcd.kill(leader);
    // Longer than the lease of an instance whose heartbeats were lost.
    rig.pass(rig.scale.pick(Duration::from_secs(7), Duration::from_secs(20))).await;
    rig.etcd.restart(leader).await;
    nobody_noticed(&rig, "etcd leader killed", users, Instant::now()).await;
}

#[tokio::test]
async fn the_leader_is_frozen() {
    let mut rig = Rig::start().await;
    let users = rig.users().await;
    let leader = rig.etcd.leader().await;
    rig.etcd.freeze(leader);
    rig.pass(rig.scale.pick(Duration::from_secs(7), Duration::from_secs(20))).await;
    rig.etcd.thaw(leader);
    nobody_noticed(&rig, "etcd leader stopped (SIGSTOP)", users, Instant::now()).await;
}

#[tokio::test]
async fn the_leader_is_cut_off_from_the_others_and_still_reached_by_its_clients() {
    let etcd = EtcdCluster::with(EtcdConfig { members: 3, can_be_cut: true, ..EtcdConfig::default() }).await;
    let mut rig = Rig::prepare(etcd, |_| Vec::new());
    rig.run_all().await;
    let users = rig.users().await;
    let leader = rig.etcd.leader().await;
    rig.etcd.cut_off(leader);
    rig.pass(rig.scale.pick(Duration::from_secs(7), Duration::from_secs(20))).await;
    let next = rig.etcd.leaders().await;
    assert!(next.iter().any(|member| *member != leader), "the others must have elected one of them: {next:?}");
    rig.etcd.heal();
    nobody_noticed(&rig, "etcd leader partitioned", users, Instant::now()).await;
}

#[tokio::test]
async fn the_quorum_is_lost() {
    let mut rig = Rig::start().await;
    let users = rig.users().await;
    let leader = rig.etcd.leader().await;
    let lost = [leader, (leader + 1) % 3];
    lost.into_iter().for_each(|member| rig.etcd.kill(member));
    let outage = rig.scale.pick(Duration::from_secs(8), Duration::from_secs(60));
    rig.pass(outage).await;
    lost.into_iter().for_each(|member| rig.etcd.launch(member));
    rig.etcd.healthy().await;
    nobody_noticed(&rig, &format!("etcd quorum lost for {} s", outage.as_secs()), users, Instant::now()).await;
}

#[tokio::test]
async fn everything_in_etcd_is_lost() {
    let mut rig = Rig::start().await;
    let users = rig.users().await;
    let revision = async |rig: &Rig| rig.admin("/v1/table").await.and_then(|table| table["table"]["revision"].as_i64());
    let before = revision(&rig).await;
    rig.etcd.wipe().await;
    let wiped = Instant::now();
    let mut noticed = None;
    while noticed.is_none() && wiped.elapsed() < LIMIT {
        let now = revision(&rig).await;
        noticed = (now < before).then(|| wiped.elapsed());
        rig.pass(Duration::from_millis(10)).await;
    }
    let complete = rig.all_registered(wiped, LIMIT).await;
    rig.all_in_rotation().await;
    rig.pass(Duration::from_secs(1)).await;
    let row = rig.row("etcd wiped and restarted empty", users).with("noticed", noticed).with("complete", complete);
    row.check(None);
    assert!(noticed.is_some() && complete.is_some(), "{row}");
}
