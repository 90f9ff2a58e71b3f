//! Whatever starts first waits for the rest.

use std::time::Duration;

use e2e::suite::{PARTS, Suite};
use testkit::wait::wait_for;

/// Starts the parts in the given order, with etcd as the part number `etcd_at`, each a moment after the one before.
async fn starts_in(order: [usize; PARTS.len()], etcd_at: usize) {
    let mut suite = Suite::prepare().await;
    for member in 0..3 {
        suite.etcd.kill(member);
    }
    for (place, part) in order.into_iter().enumerate() {
        if place == etcd_at {
            restart_etcd(&mut suite).await;
        }
        suite.run(PARTS[part]);
        // Long enough for the part to look for what is not there yet, so that the order means something.
        let output = || suite.output(PARTS[part]);
        wait_for("the first words of a part", Duration::from_secs(20), async || (!output().is_empty()).then_some(()))
            .await;
    }
    if etcd_at >= order.len() {
        restart_etcd(&mut suite).await;
    }
    suite.wait_until_ready().await;
}

async fn restart_etcd(suite: &mut Suite) {
    for member in 0..3 {
        suite.etcd.launch(member);
    }
    suite.etcd.healthy().await;
}

// PARTS: registry-1, registry-2, mail-1, mail-2, userlist-1, userlist-2, balance.

#[tokio::test]
async fn etcd_first_gateway_last() {
    starts_in([0, 1, 2, 3, 4, 5, 6], 0).await;
}

#[tokio::test]
async fn gateway_first_etcd_last() {
    starts_in([6, 5, 4, 3, 2, 1, 0], 7).await;
}

#[tokio::test]
async fn services_first_then_etcd_then_registries() {
    starts_in([2, 4, 3, 5, 6, 0, 1], 5).await;
}

#[tokio::test]
async fn registries_and_gateway_before_etcd_before_services() {
    starts_in([1, 6, 0, 2, 4, 3, 5], 3).await;
}

#[tokio::test]
async fn everything_mixed() {
    starts_in([4, 1, 6, 3, 0, 2, 5], 4).await;
}
