//! A conversation with a server that is not ours, where one is installed: Python's `smtpd` or `aiosmtpd`. Both print
//! what they receive.

use std::process::Command;

use serde_json::json;
use testkit::{
    ports::free_ports,
    process::Process,
    smtp_sink::SmtpSink,
    wait::{SOON, wait_for, wait_until},
};

use crate::service::Mail;

/// Starts the first of the two that there is.
async fn third_party(dir: &std::path::Path) -> Option<(Process, u16)> {
    for (module, before_address) in [("smtpd", &["-n", "-c", "DebuggingServer"][..]), ("aiosmtpd", &["-n", "-l"])] {
        let port = free_ports(1)[0];
        let mut command = Command::new("python3");
        command.args(["-u", "-W", "ignore", "-m", module]).args(before_address).arg(format!("127.0.0.1:{port}"));
        let Ok(mut process) = Process::start(&mut command, &dir.join(module)) else { continue };
        let is_up = wait_for("a server or its end", SOON, || {
            let running = process.is_running();
            async move {
                let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
                (connected || !running).then_some(running)
            }
        });
        if is_up.await {
            return Some((process, port));
        }
    }
    None
}

#[tokio::test]
async fn a_server_by_others_takes_our_messages() {
    let dir = tempfile::tempdir().unwrap();
    let Some((process, port)) = third_party(dir.path()).await else {
        println!("SKIPPED a_server_by_others_takes_our_messages: neither smtpd nor aiosmtpd is installed for python3");
        return;
    };
    let unused = SmtpSink::start().await;
    let url = format!("smtp://127.0.0.1:{port}");
    let mail = Mail::over(&unused, &["--smtp-url", &url]);
    for message in ["first", ".second", "dritte: äöü"] {
        let answer = mail.post(&json!({ "address": "a@b.c", "message": message, "subject": message })).await;
        answer.assert(200, "success");
    }
    // Its words for a body in base64 are the encoded ones.
    for expected in ["first", ".second", "To: a@b.c", "Subject: first"] {
        wait_until(expected, SOON, || async { process.output().contains(expected) }).await;
    }
    assert_eq!(unused.connections_accepted(), 0);
}
