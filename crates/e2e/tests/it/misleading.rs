//! Usual mistakes of a first setup, and what the programs say about them.

use e2e::suite::Suite;
use testkit::wait::{SOON, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_the_gateway_or_etcd_for_a_registry_is_told_so() {
    let mut suite = Suite::prepare().await;
    let gateway = suite.gateway();
    let etcd = suite.etcd.endpoints()[0].clone();
    let mail = format!("http://{}", suite.address("mail-1"));
    for (service, registry) in [("mail-1", &gateway), ("mail-2", &etcd), ("userlist-1", &mail)] {
        suite.set(service, "REGISTRY_URLS", registry);
    }
    for name in ["balance", "mail-1", "mail-2", "userlist-1"] {
        suite.run(name);
    }
    for (service, what) in [
        ("mail-1", "this is the gateway (balance), not a registry"),
        ("mail-2", "this is etcd, by its answer, not a registry"),
        ("userlist-1", "this is some other HTTP service, not a registry"),
    ] {
        wait_until(&format!("{service} says: {what}"), SOON, async || suite.output(service).contains(what)).await;
        assert!(suite.output(service).contains("REGISTRY_URLS"), "{}", suite.output(service));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_says_when_another_instance_has_an_outbox_of_its_own_and_not_when_they_share_one() {
    const WARNING: &str = "has an outbox of its own";
    let mut suite = Suite::prepare().await;
    for name in ["registry-1", "registry-2", "mail-1", "mail-2", "balance"] {
        suite.run(name);
    }
    suite.wait_for_instances("mail", 2).await;
    suite.terminate("mail-2").await;
    let folder = tempfile::tempdir().unwrap();
    suite.set("mail-2", "MAIL_OUTBOX_URL", &format!("sqlite:{}/outbox.db", folder.path().display()));
    assert!(!suite.output("mail-2").contains(WARNING), "{}", suite.output("mail-2"));
    suite.run("mail-2");
    wait_until("the warning", SOON, async || suite.output("mail-2").contains(WARNING)).await;
    assert!(suite.output("mail-2").contains("MAIL_OUTBOX_URL"));
}
