//! Heartbeats over TLS with an authority of one's own, while certificates are renewed.

use std::{path::Path, time::Duration};

use clap::Parser as _;
use discovery_etcd::EtcdOptions;
use heartbeat::{Details, Heartbeat, HeartbeatOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use registry::{config::Config, dns::DnsListen};
use testkit::{
    etcd::EtcdCluster,
    wait::{SOON, wait_until},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::keys;

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, key()).unwrap()
}

/// Writes `server.pem`, `server.key`, `ca.pem`; another certificate each time.
pub(crate) fn issue(authority: &CertifiedIssuer<'static, KeyPair>, folder: &Path) -> String {
    let key = key();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    certificate.pem()
}

/// A registry that speaks https; its URL and what ends it.
pub(crate) async fn start(etcd: &EtcdCluster, folder: &Path) -> (String, CancellationToken) {
    let mut config = Config::try_parse_from(["registry"]).unwrap();
    config.etcd = EtcdOptions::at(etcd.endpoints());
    config.dns_listen = DnsListen::Off;
    config.tls.tls_cert_file = Some(folder.join("server.pem"));
    config.tls.tls_key_file = Some(folder.join("server.key"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    tokio::spawn(registry::run_on(listener, config, shutdown.clone()));
    (url, shutdown)
}

fn announce(urls: &[&str], ca: &Path) -> Heartbeat {
    let mut options = HeartbeatOptions::for_registries(urls.iter().map(|url| url.parse().unwrap()).collect());
    options.credentials.registry_ca_file = Some(ca.to_owned());
    Heartbeat::start("mail".parse().unwrap(), ([127, 0, 0, 1], 7070).into(), &options, Details::default())
}

#[tokio::test]
async fn an_instance_registers_over_tls_and_is_not_lost_when_certificates_are_renewed() {
    let etcd = EtcdCluster::start(1).await;
    let authority = authority();
    let folder = tempfile::tempdir().unwrap();
    let first = issue(&authority, folder.path());
    let [(a, end_a), (b, end_b)] = [start(&etcd, folder.path()).await, start(&etcd, folder.path()).await];
    let heartbeat = announce(&[&a, &b], &folder.path().join("ca.pem"));
    let mut state = heartbeat.state();
    let registered = tokio::time::timeout(SOON, state.wait_for(|state| state.registered)).await;
    let current = registered.expect("it is registered").unwrap().registry.clone().unwrap().to_string();
    assert_eq!(keys(&etcd), ["service/mail/127.0.0.1:7070"]);

    let story = async {
        assert_ne!(issue(&authority, folder.path()), first);
        tokio::time::sleep(service_kit::reload::INTERVAL + Duration::from_secs(1)).await;
        // The other one is met with its new certificate.
        let (end, other) = if current == a { (&end_a, &b) } else { (&end_b, &a) };
        end.cancel();
        wait_until("heartbeats go to the other one", SOON, async || {
            heartbeat.state().borrow().registry.as_ref().is_some_and(|registry| registry.to_string() == *other)
        })
        .await;
    };
    let mut state = heartbeat.state();
    tokio::select! {
        () = story => {}
        lost = state.wait_for(|state| !state.registered) => panic!("{:?}", lost.unwrap().last_error),
    }
    assert_eq!(keys(&etcd), ["service/mail/127.0.0.1:7070"]);
}

#[tokio::test]
async fn a_registry_that_shows_a_certificate_of_a_stranger_gets_no_heartbeat() {
    let etcd = EtcdCluster::start(1).await;
    let folder = tempfile::tempdir().unwrap();
    let strange = tempfile::tempdir().unwrap();
    issue(&authority(), folder.path());
    issue(&authority(), strange.path());
    let (url, _end) = start(&etcd, folder.path()).await;
    let heartbeat = announce(&[&url], &strange.path().join("ca.pem"));
    let state = heartbeat.state();
    wait_until("the failure is told", SOON, async || state.borrow().last_error.is_some()).await;
    assert!(!state.borrow().registered);
    assert!(keys(&etcd).is_empty());
}
