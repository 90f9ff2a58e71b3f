//! A stand-in for the services in tests of `muster up`, under whatever name it is called by.
//!
//! It answers 200 to everything on the address in its `…_LISTEN` variables. Files in the folder `FAKE_DIR` make it
//! misbehave: `mail.broken` (it ends at once, with a last word), `mail.unready` (`/readyz` says 503 and why),
//! `mail.deaf` (it does not heed SIGTERM). What happens to it is appended to the file `events` there.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

/// No test waits for it longer, so that a test that was killed leaves nothing behind for long.
const LONGEST_LIFE: Duration = Duration::from_secs(180);

#[derive(Clone)]
struct Fake {
    name: String,
    folder: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let program = std::env::args().next().unwrap_or_default();
    let name = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fake = Fake { name, folder: std::env::var_os("FAKE_DIR").map(PathBuf::from).unwrap_or_default() };
    match tokio::time::timeout(LONGEST_LIFE, fake.run()).await {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            fake.say(&error.to_string());
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}

impl Fake {
    async fn run(&self) -> std::io::Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate())?;
        if self.is("broken") {
            self.say("boom: the disk is full");
            return Ok(ExitCode::from(3));
        }
        for address in self.addresses() {
            self.say(&format!("listening on {address}"));
            let listener = TcpListener::bind(&address).await?;
            let fake = self.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(fake.clone().answer(stream));
                }
            });
        }
        loop {
            terminate.recv().await;
            self.event("SIGTERM");
            if !self.is("deaf") {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// The values of `MAIL_LISTEN` and the like.
    fn addresses(&self) -> Vec<String> {
        let prefix = self.name.to_ascii_uppercase();
        let is_listen = |name: &str| name.starts_with(&prefix) && name.ends_with("_LISTEN");
        std::env::vars().filter(|(name, _)| is_listen(name)).map(|(_, value)| value).collect()
    }

    async fn answer(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
            head.push_str(&line);
            line.clear();
        }
        let (status, body) = if head.starts_with("GET /readyz ") && self.is("unready") {
            ("503 Service Unavailable", r#"{"status":"not ready","checks":{"database":"it is gone fishing"}}"#)
        } else {
            ("200 OK", "{}")
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        // The client may be gone.
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    fn is(&self, what: &str) -> bool {
        self.folder.join(format!("{}.{what}", self.name)).exists()
    }

    fn event(&self, what: &str) {
        let events = File::options().create(true).append(true).open(self.folder.join("events"));
        if let Ok(mut events) = events {
            // In one piece: several processes append to the same file at the same moment.
            let _ = events.write_all(format!("{} {what}\n", self.name).as_bytes());
        }
    }

    #[expect(clippy::print_stderr, reason = "this is the log that the tests look at")]
    fn say(&self, text: &str) {
        eprintln!("{}: {text}", self.name);
    }
}
