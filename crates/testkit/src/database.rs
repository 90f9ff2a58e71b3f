//! A real database that speaks MySQL's protocol: MariaDB, or MySQL where one is named, in its own folder, on its own
//! port.
//!
//! MariaDB is what Debian ships, and what the tests of `userlist` and of `mail`'s outbox run against; with
//! `TESTKIT_MYSQL` they run against MySQL (`make mysql`). Initialising a data folder takes a second of both cores,
//! starting on an initialised one a fifth of that: so the first test initialises one folder beside the test binaries,
//! and every database starts on a copy of it.

mod server;

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use self::server::Server;
use crate::{ports::free_ports, process::Process, wait};

/// The account in [`Database::url`]: it may do what a service needs, and nothing that only an operator may.
pub const USER: &str = "muster";
/// Its password.
pub const PASSWORD: &str = "m u/s:t@er";
/// The same as it is written in a URL.
const PASSWORD_IN_URL: &str = "m%20u%2Fs%3At%40er";

/// A database server; dropping it ends the process and removes its data.
#[derive(Debug)]
pub struct Database {
    server: Server,
    folder: TempDir,
    port: u16,
    process: Option<Process>,
}

// === impl Database ===

impl Database {
    /// A running server.
    ///
    /// # Panics
    ///
    /// When the server is not installed, or does not answer soon; with what it printed.
    pub async fn start() -> Self {
        let mut database = Self::stopped();
        database.run().await;
        database
    }

    /// A server that is not running yet: nothing listens on its port.
    ///
    /// # Panics
    ///
    /// When the server is not installed.
    pub fn stopped() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = Server::chosen();
        copy(&template(&server), &folder.path().join("data")).expect("the initialised folder can be copied");
        let port = free_ports(1)[0];
        Self { server, folder, port, process: None }
    }

    /// Starts it (again), on the same port and data, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not answer soon; with what it printed.
    pub async fn run(&mut self) {
        let is_running = self.process.as_mut().is_some_and(Process::is_running);
        assert!(!is_running, "the database is running already");
        let port = self.port;
        let answers = wait::poll(wait::SOON, || {
            // It ends by itself when its port is taken, which may be over in a moment.
            if !self.process.as_mut().is_some_and(Process::is_running) {
                self.process = Some(self.launch());
            }
            async move { greets(port).then_some(()) }
        });
        if answers.await.is_none() {
            let output = self.process.as_ref().map(Process::output).unwrap_or_default();
            panic!("the database does not answer on port {}:\n{output}", self.port);
        }
    }

    /// `mysql://…` for the database `name`, with the account that a service would have.
    pub fn url(&self, name: &str) -> String {
        format!("mysql://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{name}", self.port)
    }

    /// Whether it is MySQL, and not MariaDB.
    pub fn is_mysql(&self) -> bool {
        self.server != Server::Mariadb
    }

    /// The port on 127.0.0.1, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements as the server's administrator and returns the rows: columns apart by tabs, no header.
    ///
    /// # Panics
    ///
    /// When a statement fails.
    pub fn sql(&self, statements: &str) -> String {
        let output = self
            .server
            .client()
            .args(["--user=root", "--batch", "--skip-column-names", "--connect-timeout=10"])
            .arg(format!("--socket={}", self.path("socket").display()))
            .args(["--default-character-set=utf8mb4", "--execute", statements])
            .output()
            .expect("the client is where the server is");
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Creates an empty database and returns its URL.
    pub fn create(&self, name: &str) -> String {
        self.sql(&format!("CREATE DATABASE `{name}`"));
        self.url(name)
    }

    /// Ends it at once, as a power failure would (but for what the kernel still writes).
    pub fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill();
        }
    }

    /// Stops it in place: connections stay open and are accepted, and nothing answers.
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// When it is not running.
    pub fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&mut self, signal: Signal) {
        let was_sent = self.process.as_mut().is_some_and(|process| process.signal(signal));
        assert!(was_sent, "the database is not running");
    }

    fn launch(&self) -> Process {
        let mut command = self.server.server();
        command
            .arg("--bind-address=127.0.0.1")
            .arg(format!("--port={}", self.port))
            .arg(format!("--datadir={}", self.path("data").display()))
            .arg(format!("--socket={}", self.path("socket").display()))
            .arg(format!("--pid-file={}", self.path("pid").display()));
        Process::start(&mut command, &self.path("output"))
            .expect("the server's program was there to initialise its folder")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The server speaks first: a greeting of protocol version 10, once it is ready for clients.
fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let mut head = [0; 5];
    let answered = stream.set_read_timeout(Some(Duration::from_secs(1))).and_then(|()| stream.read_exact(&mut head));
    answered.is_ok() && head[4] == 10
}

/// The initialised folder that every database is a copy of; made by the first test.
fn template(server: &Server) -> PathBuf {
    let folder = build_folder();
    let template = folder.join(format!("{}-template", server.word()));
    let lock = File::create(template.with_extension("lock")).expect("a lock beside the test binaries");
    lock.lock().expect("a lock on a local file system");
    if !template.exists() {
        let unfinished = tempfile::tempdir_in(&folder).expect("a folder beside the test binaries");
        let data = unfinished.path().join("data");
        server.initialise(&data);
        fs::rename(&data, &template).expect("a folder can be renamed on its file system");
    }
    template
}

/// `target/debug` of the test that runs: a test binary is `target/debug/deps/it-…`.
fn build_folder() -> PathBuf {
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent).and_then(Path::parent);
    folder.map_or_else(std::env::temp_dir, Path::to_owned)
}

/// Copies a folder of files and folders.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_committed_is_there_after_a_kill() {
        let mut database = Database::start().await;
        database.create("sample");
        database.sql("CREATE TABLE sample.t (x INT); INSERT INTO sample.t VALUES (7)");
        database.kill();
        assert!(!greets(database.port()));
        database.run().await;
        assert_eq!(database.sql("SELECT x FROM sample.t"), "7\n");
    }

    #[tokio::test]
    async fn a_frozen_database_does_not_answer_until_it_is_thawed() {
        let mut database = Database::start().await;
        database.freeze();
        assert!(!greets(database.port()));
        database.thaw();
        wait::wait_until("a greeting", wait::SOON, || async { greets(database.port()) }).await;
    }
}
