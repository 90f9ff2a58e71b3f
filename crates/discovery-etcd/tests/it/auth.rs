//! etcd with users: passwords, roles, and tokens that do not last.

use std::time::Duration;

use discovery::Status;
use discovery_etcd::{CallError, Etcd, EtcdError, EtcdOptions, ResyncCause};
use futures::future::join_all;
use testkit::{
    etcd::{EtcdCluster, EtcdConfig},
    wait::{SOON, wait_for, wait_until},
};
use tokio::time::Instant;

use crate::{
    follower::Follower,
    parts::{etcd, instance, key, long_ttl, patient},
};

const PASSWORD: &str = "correct-horse";

/// One member with authentication: `root`, and `muster`, who may do what the suite needs and nothing else.
async fn cluster_with_users() -> EtcdCluster {
    let cluster = cluster().await;
    enable(&cluster);
    cluster
}

async fn cluster() -> EtcdCluster {
    // Hashing a password takes a millisecond instead of a hundred.
    cluster_of_cost(4).await
}

async fn cluster_of_cost(bcrypt: u32) -> EtcdCluster {
    // Tokens last one second, if hashing does not take longer.
    let ttl = if bcrypt > 4 { "60" } else { "1" };
    let bcrypt = bcrypt.to_string();
    let args = ["--auth-token-ttl", ttl, "--bcrypt-cost", &bcrypt, "--log-level", "debug"];
    let args = args.map(str::to_owned).to_vec();
    EtcdCluster::with(EtcdConfig { members: 1, args, ..EtcdConfig::default() }).await
}

fn enable(cluster: &EtcdCluster) {
    cluster.etcdctl(&["user", "add", &format!("root:{PASSWORD}")]);
    cluster.etcdctl(&["user", "grant-role", "root", "root"]);
    cluster.etcdctl(&["role", "add", "muster"]);
    for prefix in ["service/", "override/", "config/"] {
        cluster.etcdctl(&["role", "grant-permission", "muster", "--prefix=true", "readwrite", prefix]);
    }
    cluster.etcdctl(&["user", "add", &format!("muster:{PASSWORD}")]);
    cluster.etcdctl(&["user", "grant-role", "muster", "muster"]);
    cluster.etcdctl(&["auth", "enable"]);
}

fn login(cluster: &EtcdCluster, user: &str, password: &str) -> EtcdOptions {
    EtcdOptions {
        etcd_user: Some(user.to_owned()),
        etcd_password: Some(password.to_owned().into()),
        ..patient(cluster)
    }
}

fn tokens_deleted(cluster: &EtcdCluster) -> usize {
    cluster.output(0).matches("deleted a simple token").count()
}

#[tokio::test]
async fn a_user_with_no_more_rights_than_needed_can_do_everything() {
    let cluster = cluster_with_users().await;
    let etcd = Etcd::new(&login(&cluster, "muster", PASSWORD)).unwrap();
    let follower = Follower::start(etcd.clone());
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    etcd.keep_alive(lease).await.unwrap();
    etcd.update(&key("mail/a"), &instance("a:2"), lease).await.unwrap();
    etcd.put_override(&key("mail/a"), Status::Draining).await.unwrap();
    follower.has(&[("mail/a", "a:2")]).await;
    etcd.deregister(&key("mail/a"), Some(lease)).await.unwrap();
    follower.has(&[]).await;
    follower.is_connected().await;
    // Newer versions tell only root how they are.
    let root = Etcd::new(&login(&cluster, "root", PASSWORD)).unwrap();
    assert_eq!(root.status().await.reachable().count(), 1);
}

#[tokio::test]
async fn an_expired_token_is_renewed_without_anybody_noticing() {
    let cluster = cluster_with_users().await;
    let etcd = Etcd::new(&login(&cluster, "muster", PASSWORD)).unwrap();
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    // Several calls at once find the token expired; each kind of call does so once.
    for round in 0..3 {
        let deleted = tokens_deleted(&cluster);
        wait_until("the token to expire", SOON, || async { tokens_deleted(&cluster) > deleted }).await;
        match round {
            0 => {
                let key_b = key("mail/b");
                let key_c = key("mail/c");
                let b = instance("b:1");
                let (snapshot, first, second) = tokio::join!(
                    etcd.snapshot(),
                    etcd.register(&key_b, &b, long_ttl()),
                    etcd.register(&key_c, &b, long_ttl())
                );
                assert!(snapshot.is_ok() && first.is_ok() && second.is_ok(), "{snapshot:?} {first:?} {second:?}");
            }
            1 => {
                etcd.keep_alive(lease).await.unwrap();
                etcd.update(&key("mail/a"), &instance("a:2"), lease).await.map(drop).unwrap();
            }
            _ => etcd.deregister(&key("mail/a"), Some(lease)).await.map(drop).unwrap(),
        }
    }
    assert_eq!(etcd.snapshot().await.unwrap().instances.len(), 2);
}

#[tokio::test]
async fn a_restarted_member_that_has_forgotten_all_tokens_is_logged_into_again() {
    let mut cluster = cluster_with_users().await;
    let etcd = Etcd::new(&login(&cluster, "muster", PASSWORD)).unwrap();
    let follower = Follower::start(etcd.clone());
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    follower.has(&[("mail/a", "a:1")]).await;
    cluster.kill(0);
    cluster.restart(0).await;
    etcd.keep_alive(lease).await.unwrap();
    etcd.update(&key("mail/a"), &instance("a:2"), lease).await.unwrap();
    follower.has(&[("mail/a", "a:2")]).await;
    follower.resynced(ResyncCause::Closed).await;
    follower.is_connected().await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_once_and_never_repeated_to_anybody() {
    let cluster = cluster_with_users().await;
    let etcd = Etcd::new(&login(&cluster, "muster", "wrong-horse")).unwrap();
    let began = Instant::now();
    let error = etcd.snapshot().await.unwrap_err();
    assert!(!error.is_transient() && began.elapsed() < Duration::from_secs(3), "{error:?}");
    let text = format!("{} {error:?} {etcd:?}", service_kit::chain(&error));
    assert!(text.contains("log-in refused: authentication failed"), "{text}");
    assert!(!text.contains("wrong-horse"), "{text}");
}

#[tokio::test]
async fn a_log_in_that_takes_longer_than_a_call_is_made_once_for_all_and_succeeds() {
    let cluster = cluster_of_cost(12).await;
    enable(&cluster);
    let asked = cluster.calls(0, "Auth", "Authenticate").await;
    // Comparing a password of cost 12 takes a quarter of a second and more.
    let options = EtcdOptions {
        etcd_timeout: Duration::from_millis(60),
        etcd_deadline: Duration::from_millis(100),
        ..login(&cluster, "muster", PASSWORD)
    };
    let etcd = Etcd::new(&options).unwrap();
    let at_once = join_all((0..16).map(async |_| etcd.snapshot().await)).await;
    assert!(at_once.iter().all(|snapshot| snapshot.as_ref().is_err_and(EtcdError::is_transient)), "{at_once:?}");
    let text = service_kit::chain(at_once[0].as_ref().unwrap_err()).to_string();
    assert!(text.contains("log-in"), "{text}");
    wait_for("a call that goes through", SOON, async || etcd.snapshot().await.ok()).await;
    assert_eq!(cluster.calls(0, "Auth", "Authenticate").await - asked, 1.0);
}

#[tokio::test]
async fn a_refused_log_in_is_not_repeated_by_every_call() {
    let cluster = cluster_with_users().await;
    let asked = cluster.calls(0, "Auth", "Authenticate").await;
    let etcd = Etcd::new(&login(&cluster, "muster", "wrong-horse")).unwrap();
    for _ in 0..200 {
        assert!(!etcd.snapshot().await.unwrap_err().is_transient());
    }
    let asked = cluster.calls(0, "Auth", "Authenticate").await - asked;
    assert!(asked < 20.0, "{asked}");
}

#[tokio::test]
async fn a_password_that_changes_in_its_file_and_in_etcd_counts_without_a_restart() {
    let cluster = cluster_with_users().await;
    let file = cluster.dir().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let options = EtcdOptions {
        etcd_user: Some("muster".to_owned()),
        etcd_password_file: Some(file.clone()),
        ..patient(&cluster)
    };
    let etcd = Etcd::new(&options).unwrap();
    etcd.snapshot().await.unwrap();
    let root = format!("root:{PASSWORD}");
    cluster.etcdctl_with(&["--user", &root, "user", "passwd", "muster", "--interactive=false"], "battery-staple\n");
    let refused = wait_for("a refused log-in", SOON, async || etcd.snapshot().await.err()).await;
    assert!(service_kit::chain(&refused).to_string().contains("log-in refused"), "{refused:?}");
    std::fs::write(&file, "battery-staple\n").unwrap();
    wait_for("a call with the new password", SOON, async || etcd.snapshot().await.ok()).await;
}

#[tokio::test]
async fn etcd_that_wants_a_user_says_so_to_a_client_without_one() {
    let cluster = cluster_with_users().await;
    let error = etcd(&cluster).snapshot().await.unwrap_err();
    let text = service_kit::chain(&error).to_string();
    assert!(text.contains("user name is empty"), "{text}");
}

#[tokio::test]
async fn rights_that_are_missing_are_named_and_not_retried() {
    let cluster = cluster_with_users().await;
    cluster.etcdctl(&[
        "--user",
        &format!("root:{PASSWORD}"),
        "role",
        "revoke-permission",
        "muster",
        "--prefix=true",
        "override/",
    ]);
    let etcd = Etcd::new(&login(&cluster, "muster", PASSWORD)).unwrap();
    let error = etcd.put_override(&key("mail/a"), Status::Draining).await.unwrap_err();
    assert!(!error.is_transient());
    let text = service_kit::chain(&error).to_string();
    assert!(text.contains("permission denied") && text.contains("override/"), "{text}");
    let advice = error.cause().and_then(CallError::advice).unwrap();
    assert!(advice.ends_with("readwrite override/"), "{advice}");
    assert!(etcd.writes().trouble(Instant::now()).is_some());
    let error = etcd.snapshot().await.unwrap_err();
    let text = service_kit::chain(&error).to_string();
    assert!(text.contains("read or write override/:"), "a list names the range that is denied: {text}");
    etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap();
}

#[tokio::test]
async fn authentication_may_be_switched_on_while_we_run() {
    let cluster = cluster().await;
    let etcd = Etcd::new(&login(&cluster, "muster", PASSWORD)).unwrap();
    let follower = Follower::start(etcd.clone());
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    follower.has(&[("mail/a", "a:1")]).await;
    enable(&cluster);
    etcd.keep_alive(lease).await.unwrap();
    etcd.update(&key("mail/a"), &instance("a:2"), lease).await.unwrap();
    follower.has(&[("mail/a", "a:2")]).await;
}
