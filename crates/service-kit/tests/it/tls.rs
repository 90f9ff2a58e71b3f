use std::{path::Path, time::Duration};

use axum::{Router, body::Bytes, http::Request, routing::get};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use service_kit::{
    client::{ClientError, ClientTls, HttpClient},
    health,
    serve::{ServeOptions, serve_with},
    tls::TlsOptions,
};
use testkit::wait::{SOON, wait_until};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

/// An authority, which writes certificates into a folder.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key()).unwrap())
    }

    /// `name.pem`, `name.key` and `name-ca.pem`.
    pub(crate) fn issue(&self, folder: &Path, name: &str) {
        let key = key();
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}-ca.pem")), self.0.pem()).unwrap();
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn options(folder: &Path, client_ca: Option<&str>) -> TlsOptions {
    TlsOptions {
        tls_cert_file: Some(folder.join("server.pem")),
        tls_key_file: Some(folder.join("server.key")),
        tls_client_ca_file: client_ca.map(|name| folder.join(name)),
    }
}

async fn start(options: &TlsOptions) -> std::net::SocketAddr {
    let tls = options.load().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || "hello"));
    tokio::spawn(serve_with(listener, router, ServeOptions::default(), tls, CancellationToken::new()));
    address
}

fn client(folder: &Path, ca: &str, identity: Option<&str>) -> HttpClient {
    let pair = |name: &str| (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    HttpClient::new(&ClientTls { ca_file: Some(folder.join(ca)), identity: identity.map(pair) }).unwrap()
}

async fn ask(client: &HttpClient, url: &str) -> Result<Bytes, ClientError> {
    let request = Request::get(url).body(Bytes::new()).unwrap();
    client.send(request, DEADLINE, 1024).await.map(|answer| answer.body)
}

#[tokio::test]
async fn https_is_served_to_who_trusts_the_certificate_and_plain_http_is_not() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(folder.path(), "server");
    Authority::new().issue(folder.path(), "stranger");
    let address = start(&options(folder.path(), None)).await;
    let trusting = client(folder.path(), "server-ca.pem", None);
    assert_eq!(ask(&trusting, &format!("https://{address}/")).await.unwrap(), "hello");
    assert_eq!(ask(&trusting, &format!("https://localhost:{}/", address.port())).await.unwrap(), "hello");
    let distrustful = client(folder.path(), "stranger-ca.pem", None);
    let refused = ask(&distrustful, &format!("https://{address}/")).await.unwrap_err();
    assert!(refused.is_connect(), "nothing was sent: {refused:?}");
    assert!(ask(&trusting, &format!("http://{address}/")).await.is_err());
    let healthy = tokio::task::spawn_blocking(move || health::check(address, true)).await.unwrap();
    assert_eq!(format!("{healthy:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
}

#[tokio::test]
async fn with_an_authority_for_clients_only_its_clients_get_in() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(folder.path(), "server");
    authority.issue(folder.path(), "member");
    Authority::new().issue(folder.path(), "stranger");
    let address = start(&options(folder.path(), Some("server-ca.pem"))).await;
    let url = format!("https://{address}/");
    let member = client(folder.path(), "server-ca.pem", Some("member"));
    assert_eq!(ask(&member, &url).await.unwrap(), "hello");
    for identity in [None, Some("stranger")] {
        assert!(ask(&client(folder.path(), "server-ca.pem", identity), &url).await.is_err(), "{identity:?}");
    }
}

#[tokio::test]
async fn a_client_shows_its_renewed_certificate_from_the_next_connection_on() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(folder.path(), "server");
    Authority::new().issue(folder.path(), "member");
    let url = format!("https://{}/", start(&options(folder.path(), Some("server-ca.pem"))).await);
    let member = client(folder.path(), "server-ca.pem", Some("member"));
    assert!(ask(&member, &url).await.is_err(), "its certificate is a stranger's");
    std::fs::write(folder.path().join("member.pem"), "nonsense").unwrap();
    assert!(ask(&member, &url).await.is_err(), "and stays that");
    authority.issue(folder.path(), "member");
    assert_eq!(ask(&member, &url).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_renewed_certificate_counts_without_a_restart_and_a_broken_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(folder.path(), "server");
    let address = start(&options(folder.path(), None)).await;
    let url = format!("https://{address}/");
    std::fs::write(folder.path().join("server.pem"), "nonsense").unwrap();
    tokio::time::sleep(service_kit::reload::INTERVAL + Duration::from_millis(500)).await;
    ask(&client(folder.path(), "server-ca.pem", None), &url).await.unwrap();
    Authority::new().issue(folder.path(), "server");
    let renewed = async {
        while ask(&client(folder.path(), "server-ca.pem", None), &url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, renewed).await.expect("the new certificate is shown");
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_a_mistake_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(folder.path(), "server");
    let half = TlsOptions { tls_key_file: None, ..options(folder.path(), Some("server-ca.pem")) };
    assert_eq!(half.mistakes().len(), 1);
    let orphan = TlsOptions { tls_cert_file: None, tls_key_file: None, ..half };
    assert_eq!(orphan.mistakes().len(), 1);
    std::fs::write(folder.path().join("server.key"), key().serialize_pem()).unwrap();
    assert!(options(folder.path(), None).load().is_err(), "another one's key");
}

#[tokio::test]
async fn a_handshake_that_never_ends_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(folder.path(), "server");
    let tls = options(folder.path(), None).load().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let router = Router::new().route("/", get(async || "hello"));
    let serve_options = ServeOptions::default();
    let drain_deadline = serve_options.drain_deadline;
    let connections = serve_options.connections.clone();
    let serving = tokio::spawn(serve_with(listener, router, serve_options, tls, shutdown.clone()));
    let _silent = tokio::net::TcpStream::connect(address).await.unwrap();
    wait_until("its place", SOON, async || connections.total() == 1).await;
    shutdown.cancel();
    let end = tokio::time::timeout(drain_deadline * 3 / 4, serving).await;
    end.expect("the end before the drain deadline").unwrap();
}
