//! No registry is left: every lease expires, and users notice nothing.

use std::time::{Duration, Instant};

use e2e::rig::Rig;

const REGISTRIES: [&str; 2] = ["registry-1", "registry-2"];
const LIMIT: Duration = Duration::from_secs(20);
/// Everything is registered again, once there are registries: the aim, and on a machine that is busy with other tests.
const RECONCILED: [Duration; 2] = [Duration::from_secs(2), LIMIT];

#[tokio::test]
async fn all_registries_are_dead_until_every_lease_has_expired() {
    let mut rig = Rig::start().await;
    let users = rig.users().await;
    let table = rig.table_watch();
    for name in REGISTRIES {
        rig.kill(name);
    }
    // Leases of 5 s, and etcd's own pace.
    let outage = rig.scale.pick(Duration::from_secs(9), Duration::from_secs(60));
    rig.pass(outage).await;
    for name in REGISTRIES {
        rig.run(name);
    }
    let back = Instant::now();
    let reconciled = rig.all_registered(back, LIMIT).await;
    rig.all_in_rotation().await;
    rig.pass(Duration::from_secs(1)).await;
    let removals = table.stop().await;
    let row = rig.row(&format!("all registries dead for {} s", outage.as_secs()), users);
    let row = row.within("reconciled", reconciled, RECONCILED[0], RECONCILED[1]).without_removals(&removals);
    row.nobody_failed(None).check();
}
