//! etcd behind TLS that asks clients for a certificate.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use discovery_etcd::{Etcd, EtcdOptions};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use testkit::{
    etcd::{EtcdCluster, EtcdConfig, EtcdTls},
    wait::{SOON, wait_for},
};
use tokio::time::Instant;

use crate::{
    follower::Follower,
    parts::{instance, key, long_ttl, patient},
};

/// A certificate authority with a folder for its files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a test authority");
        let key = KeyPair::generate().unwrap();
        let ca = write(dir.path(), "ca.pem", &params.self_signed(&key).unwrap().pem());
        Self { issuer: Issuer::new(params, key), ca, dir }
    }

    /// Signs a certificate; returns its file and that of its key.
    fn sign(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> (PathBuf, PathBuf) {
        self.sign_until(name, usage, SystemTime::now() + Duration::from_secs(86_400))
    }

    /// [`Authority::sign`], for a certificate that ends then; over the files of the one before.
    fn sign_until(&self, name: &str, usage: ExtendedKeyUsagePurpose, end: SystemTime) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        params.not_after = end.into();
        params.distinguished_name.push(DnType::CommonName, name);
        // A member is a client of itself: its gRPC gateway.
        params.extended_key_usages = vec![usage, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |extension: &str, pem: &str| write(self.dir.path(), &format!("{name}.{extension}"), pem);
        (file("crt", &certificate.pem()), file("key", &key.serialize_pem()))
    }
}

fn write(dir: &Path, name: &str, pem: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, pem).unwrap();
    path
}

async fn cluster(authority: &Authority) -> EtcdCluster {
    let (cert, key) = authority.sign("etcd", ExtendedKeyUsagePurpose::ServerAuth);
    let tls = EtcdTls { ca: authority.ca.clone(), cert, key };
    EtcdCluster::with(EtcdConfig { members: 1, tls: Some(tls), ..EtcdConfig::default() }).await
}

fn options(cluster: &EtcdCluster, trusted: &Authority, identity: Option<(PathBuf, PathBuf)>) -> EtcdOptions {
    let (cert, key) = identity.unzip();
    EtcdOptions { etcd_ca_file: Some(trusted.ca.clone()), etcd_cert_file: cert, etcd_key_file: key, ..patient(cluster) }
}

#[tokio::test]
async fn with_its_certificate_a_client_can_do_everything() {
    let authority = Authority::new();
    let mut cluster = cluster(&authority).await;
    let identity = authority.sign("muster", ExtendedKeyUsagePurpose::ClientAuth);
    let etcd = Etcd::new(&options(&cluster, &authority, Some(identity))).unwrap();
    let follower = Follower::start(etcd.clone());
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    etcd.keep_alive(lease).await.unwrap();
    follower.has(&[("mail/a", "a:1")]).await;
    cluster.kill(0);
    cluster.restart(0).await;
    etcd.update(&key("mail/a"), &instance("a:2"), lease).await.unwrap();
    follower.has(&[("mail/a", "a:2")]).await;
}

#[tokio::test]
async fn who_cannot_be_trusted_is_refused_soon_and_with_a_reason() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let cluster = cluster(&authority).await;
    let good = authority.sign("muster", ExtendedKeyUsagePurpose::ClientAuth);
    let forged = stranger.sign("muster", ExtendedKeyUsagePurpose::ClientAuth);
    for (what, options) in [
        ("a client without a certificate", options(&cluster, &authority, None)),
        ("a client with a certificate of another authority", options(&cluster, &authority, Some(forged))),
        ("etcd with a certificate of an unknown authority", options(&cluster, &stranger, Some(good))),
    ] {
        let etcd = Etcd::new(&options).unwrap();
        let began = Instant::now();
        let error = etcd.snapshot().await.expect_err(what);
        assert!(began.elapsed() < Duration::from_secs(6), "{what}: {:?}", began.elapsed());
        let text = service_kit::chain(&error).to_string();
        assert!(
            text.to_lowercase().contains("certificate") || text.contains("closed") || text.contains("reset"),
            "{what}: {text}"
        );
    }
}

#[tokio::test]
async fn a_renewed_client_certificate_counts_when_etcd_is_started_again() {
    let authority = Authority::new();
    let mut cluster = cluster(&authority).await;
    let end = SystemTime::now() + Duration::from_secs(25);
    let identity = authority.sign_until("muster", ExtendedKeyUsagePurpose::ClientAuth, end);
    let etcd = Etcd::new(&options(&cluster, &authority, Some(identity))).unwrap();
    let follower = Follower::start(etcd.clone());
    let lease = etcd.register(&key("mail/a"), &instance("a:1"), long_ttl()).await.unwrap().lease;
    follower.has(&[("mail/a", "a:1")]).await;
    authority.sign("muster", ExtendedKeyUsagePurpose::ClientAuth);
    // The open connection outlives its certificate, so nothing fails; then etcd is started again.
    wait_for("the end of the first certificate", 2 * SOON, async || (SystemTime::now() > end).then_some(())).await;
    etcd.keep_alive(lease).await.unwrap();
    cluster.kill(0);
    cluster.restart(0).await;
    wait_for("a lease kept alive", SOON, async || etcd.keep_alive(lease).await.ok()).await;
    etcd.update(&key("mail/a"), &instance("a:2"), lease).await.unwrap();
    follower.has(&[("mail/a", "a:2")]).await;
}

#[tokio::test]
async fn files_that_are_no_certificates_are_refused_before_anything_is_sent() {
    let authority = Authority::new();
    let broken = write(authority.dir.path(), "broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let options = EtcdOptions { etcd_ca_file: Some(broken), ..EtcdOptions::at(["https://127.0.0.1:1"]) };
    let error = Etcd::new(&options).unwrap_err();
    assert!(error.to_string().contains("--etcd-ca-file"), "{error}");
}
