//! Userlist behind a gateway that speaks https only.

use std::{path::Path, process::Command};

use axum::{Json, Router, routing::get};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use service_kit::{
    serve::{ServeOptions, serve_with},
    tls::TlsOptions,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::process::Program;

/// Writes a certificate for `localhost`, its key and its authority.
fn issue(folder: &Path) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("gateway.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("gateway.key"), key.serialize_pem()).unwrap();
}

async fn user() -> Json<Value> {
    Json(json!({ "id": 1, "name": "dong", "email": "dong@example.com", "status": "active" }))
}

/// The gateway's URL.
async fn gateway(folder: &Path) -> String {
    let tls = TlsOptions {
        tls_cert_file: Some(folder.join("gateway.pem")),
        tls_key_file: Some(folder.join("gateway.key")),
        tls_client_ca_file: None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/userlist/v1/users/{name}", get(user));
    let tls = tls.load().unwrap();
    tokio::spawn(serve_with(listener, router, ServeOptions::default(), tls, CancellationToken::new()));
    format!("https://localhost:{port}")
}

/// The status of a message to a user by name, where the system trusts `authority`.
async fn status_of_a_message_to_a_user(gateway: &str, authority: &Path) -> u16 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mail"));
    command.args(["--gateway-url", gateway]).env("SSL_CERT_FILE", authority);
    let program = Program::start_as(&mut command).await;
    let message = json!({ "to": { "user": "dong" }, "text": "hello" });
    let request = reqwest::Client::new().post(format!("{}/v1/messages", program.url)).json(&message);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn userlist_is_asked_through_a_gateway_with_https_if_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path());
    let gateway = gateway(folder.path()).await;
    assert_eq!(status_of_a_message_to_a_user(&gateway, &folder.path().join("ca.pem")).await, 202);
    let other = tempfile::tempdir().unwrap();
    issue(other.path());
    assert_eq!(status_of_a_message_to_a_user(&gateway, &other.path().join("ca.pem")).await, 503);
}
