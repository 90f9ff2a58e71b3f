use std::{net::SocketAddr, process::Command};

use tempfile::TempDir;
use testkit::{
    process::Process,
    python::python,
    wait::{SOON, wait_for},
};

/// A server of others as an instance, in a folder of its own.
#[derive(Debug)]
pub(crate) struct RealServer {
    _process: Process,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

impl RealServer {
    /// gunicorn with this WSGI module, whose `app` is served by one worker.
    pub(crate) async fn gunicorn(module: &str) -> Self {
        let mut command = python("gunicorn");
        command.args(["--bind=127.0.0.1:0", "--workers=1", "--keep-alive=5", "instance:app"]);
        Self::start(command, "instance.py", module).await
    }

    /// Node.js with this script, which prints `Listening at: http://127.0.0.1:PORT`.
    pub(crate) async fn node(script: &str) -> Self {
        let mut command = Command::new("node");
        command.arg("instance.js");
        Self::start(command, "instance.js", script).await
    }

    /// A provider of `OpenID` Connect, where every client may log in under any name.
    pub(crate) async fn oidc_provider() -> Self {
        let mut command = python("python");
        command.args(["-m", "gunicorn", "--bind=127.0.0.1:0", "--workers=1", "instance:app"]);
        Self::start(command, "instance.py", "import oidc_provider_mock\napp = oidc_provider_mock.app()\n").await
    }

    /// The same for any program that prints `Listening at: http://127.0.0.1:PORT`; it finds `text` in `file`.
    pub(crate) async fn start(mut command: Command, file: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(file), text).unwrap();
        let process = Process::start(command.current_dir(folder.path()), &folder.path().join("output")).unwrap();
        let address = wait_for("the server to listen", SOON, || {
            let output = process.output();
            async move {
                let rest = output.split_once("Listening at: http://")?.1;
                rest.split(|c: char| !(c.is_ascii_digit() || ".:".contains(c))).next()?.parse().ok()
            }
        })
        .await;
        Self { _process: process, address, _folder: folder }
    }
}
