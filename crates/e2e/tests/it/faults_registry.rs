//! No registry is left: every lease expires, and users notice nothing.

use std::time::{Duration, Instant};

use e2e::fault_suite::FaultSuite;

const REGISTRIES: [&str; 2] = ["registry-1", "registry-2"];
const LIMIT: Duration = Duration::from_secs(20);
/// Everything is registered again, once there are registries: the aim, and on a machine that is busy with other tests.
const RECONCILED: [Duration; 2] = [Duration::from_secs(2), LIMIT];

#[tokio::test]
async fn all_registries_are_dead_until_every_lease_has_expired() {
    let mut fault_suite = FaultSuite::start().await;
    let users = fault_suite.users().await;
    let table = fault_suite.table_watch();
    for name in REGISTRIES {
        fault_suite.kill(name);
    }
    // Leases of 5 s, and etcd's own pace.
    let outage = fault_suite.scale.pick(Duration::from_secs(9), Duration::from_secs(60));
    fault_suite.pass(outage).await;
    for name in REGISTRIES {
        fault_suite.run(name);
    }
    let back = Instant::now();
    let reconciled = fault_suite.all_registered(back, LIMIT).await;
    fault_suite.all_in_rotation().await;
    fault_suite.pass(Duration::from_secs(1)).await;
    let removals = table.stop().await;
    let row = fault_suite.row(&format!("all registries dead for {} s", outage.as_secs()), users);
    let row = row.within("reconciled", reconciled, RECONCILED[0], RECONCILED[1]).without_removals(&removals);
    row.no_request_failed(None).check();
}
