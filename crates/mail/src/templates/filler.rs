//! Has templates filled by a [process](super::worker) that may break.
//!
//! A few processes are kept, started when they are needed. One that does not answer in time, or ends instead, took its
//! template's fault with it: the caller learns which bound was broken, and the next template gets a new one. They share
//! nothing with the service but a pipe, and their work is not done by the threads that heartbeat and serve.

use std::{
    fmt, io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use discovery::FieldError;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::Semaphore,
    time::timeout,
};

use super::{
    Filled, Template,
    frame::{self, Answer, Question},
    worker::{COMMAND, CPU_S},
};

/// Processes at the same time. More would take the processor from what serves.
const WORKERS_MAX: usize = 2;
/// How long one template may take: longer than its processor time, because others want the processor, too.
const DEADLINE: Duration = Duration::from_secs(CPU_S + 4);
/// A process that got less of the processor than this in all that time was stopped, or starved: that is no fault of its
/// template.
const WORKED: Duration = Duration::from_millis(CPU_S * 1000 / 4);
/// Clock ticks a second in `proc_pid_stat(5)`: Linux's `USER_HZ`.
const TICKS_PER_S: u64 = 100;
/// How long a template waits for a process.
const WAIT: Duration = Duration::from_secs(5);
/// How much of a process's output is read after it ended, and for how long.
const LAST_WORDS_BYTES: u64 = 2048;
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// See the module. Share it.
pub struct Filler {
    program: PathBuf,
    idle: Mutex<Vec<Worker>>,
    places: Semaphore,
}

/// Why a template was not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// Something of it, or of its data, is wrong.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// No template can be filled now.
    #[error("templates cannot be filled now: {reason}")]
    Unavailable {
        /// For the log and the caller.
        reason: String,
    },
}

#[derive(Debug)]
struct Worker {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    errors: ChildStderr,
}

// === impl Filler ===

impl Filler {
    /// Starts nothing yet. `program` is the one that knows [`COMMAND`]: by default this one.
    #[must_use]
    pub fn new(program: Option<PathBuf>) -> Self {
        let program = program.unwrap_or_else(this_program);
        Self { program, idle: Mutex::default(), places: Semaphore::new(WORKERS_MAX) }
    }

    /// Checks a template with its own sample.
    ///
    /// # Errors
    /// See [`Template::check`]; or it breaks a bound; or none can be checked now.
    pub async fn check(&self, template: &Template) -> Result<(), FillError> {
        self.ask(&Question::Check(template.clone())).await.map(|_| ())
    }

    /// Fills a template with `data`.
    ///
    /// # Errors
    /// See [`Template::fill`]; or it breaks a bound; or none can be filled now.
    pub async fn fill(&self, template: &Template, data: &Value) -> Result<Filled, FillError> {
        match self.ask(&Question::Fill(template.clone(), data.clone())).await? {
            Answer::Filled(filled) => Ok(filled),
            Answer::Checked | Answer::Refused { .. } => Err(unavailable("the answer was to another question")),
        }
    }

    async fn ask(&self, question: &Question) -> Result<Answer, FillError> {
        let question = frame::written(question).map_err(|error| too_large(&error))?;
        let Ok(Ok(_place)) = timeout(WAIT, self.places.acquire()).await else {
            return Err(unavailable("too many are being filled"));
        };
        let answered = match self.kept() {
            Some(worker) => match self.answered(worker, &question).await {
                // It was kept, and may have ended for reasons of its own.
                Err(Broken::Ended(_)) => self.answered_by_another(&question).await,
                answered => answered,
            },
            None => self.answered_by_another(&question).await,
        };
        match answered {
            Ok(Answer::Refused { field, reason }) => Err(FieldError::new(field, reason).into()),
            Ok(answer) => Ok(answer),
            Err(Broken::Ended(ended)) => Err(cause(&ended)),
            Err(Broken::TooSlow) => Err(bound("takes longer than a few seconds to fill")),
            Err(Broken::Starved) => {
                tracing::error!(
                    "the program that fills templates does not answer and uses no processor time; it is stopped or starved"
                );
                Err(unavailable("the program that does it gets no processor time"))
            }
            Err(Broken::NotStarted(error)) => {
                tracing::error!(%error, "the program that fills templates cannot be started");
                Err(unavailable("the program that does it cannot be started"))
            }
        }
    }

    async fn answered_by_another(&self, question: &[u8]) -> Result<Answer, Broken> {
        let worker = Worker::start(&self.program).map_err(Broken::NotStarted)?;
        self.answered(worker, question).await
    }

    /// One that does not answer is killed when it is dropped.
    async fn answered(&self, mut worker: Worker, question: &[u8]) -> Result<Answer, Broken> {
        let before = worker.worked();
        match timeout(DEADLINE, worker.ask(question)).await {
            Ok(Ok(answer)) => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
                Ok(answer)
            }
            Ok(Err(_)) => Err(Broken::Ended(worker.ended().await)),
            Err(_) => match (before, worker.worked()) {
                (Some(before), Some(now)) if now.saturating_sub(before) < WORKED => Err(Broken::Starved),
                _ => Err(Broken::TooSlow),
            },
        }
    }

    fn kept(&self) -> Option<Worker> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl fmt::Debug for Filler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filler").field("program", &self.program).finish_non_exhaustive()
    }
}

/// This program, also when its file has been replaced since it was started.
fn this_program() -> PathBuf {
    let running = Path::new("/proc/self/exe");
    if running.exists() { running.to_owned() } else { std::env::current_exe().unwrap_or_default() }
}

// === impl Worker ===

/// Why there is no answer.
#[derive(Debug)]
enum Broken {
    NotStarted(io::Error),
    Ended(Ended),
    TooSlow,
    /// The same, but it did not get the time either.
    Starved,
}

/// How a process ended.
#[derive(Debug)]
struct Ended {
    status: Option<ExitStatus>,
    final_replys: String,
}

impl Worker {
    fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        // It needs none of our secrets, and no signal that is meant for us.
        command.arg0("mail").arg(COMMAND).env_clear().process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(input), Some(output), Some(errors)) => Ok(Self { child, input, output, errors }),
            _ => Err(io::Error::other("no pipes")),
        }
    }

    async fn ask(&mut self, question: &[u8]) -> io::Result<Answer> {
        self.input.write_all(question).await?;
        self.input.flush().await?;
        let mut head = [0; 4];
        self.output.read_exact(&mut head).await?;
        let mut json = vec![0; frame::length(head)?];
        self.output.read_exact(&mut json).await?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// How much processor time it has used, where the system tells: `utime` and `stime` of `proc_pid_stat(5)`.
    fn worked(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // The program's name, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
        let ticks = times.next()?.ok()? + times.next()?.ok()?;
        Some(Duration::from_millis(ticks * 1000 / TICKS_PER_S))
    }

    async fn ended(mut self) -> Ended {
        drop((self.input, self.output));
        let status = timeout(LAST_WORDS_WAIT, self.child.wait()).await.ok().and_then(Result::ok);
        let mut words = Vec::new();
        let mut errors = self.errors.take(LAST_WORDS_BYTES);
        let _as_far_as_it_goes = timeout(LAST_WORDS_WAIT, errors.read_to_end(&mut words)).await;
        Ended { status, final_replys: String::from_utf8_lossy(&words).into_owned() }
    }
}

/// Which bound a process broke, by the signal that ended it and what Rust's runtime said.
fn cause(ended: &Ended) -> FillError {
    let signal = ended.status.and_then(|status| status.signal()).and_then(|signal| Signal::try_from(signal).ok());
    match signal {
        _ if ended.final_replys.contains("overflowed its stack") => bound("is nested too deeply"),
        _ if ended.final_replys.contains("memory allocation") => {
            bound("needs more than 128 MiB of memory to be filled")
        }
        Some(Signal::SIGXCPU) => bound("takes longer than a few seconds to fill"),
        Some(Signal::SIGSEGV | Signal::SIGABRT | Signal::SIGBUS) => {
            bound("is nested too deeply, or needs more than 128 MiB of memory to be filled")
        }
        _ => {
            tracing::error!(status = ?ended.status, "the program that fills templates ended");
            unavailable("the program that does it ended")
        }
    }
}

fn bound(what: &str) -> FillError {
    FieldError::new("template", format!("it {what}; make it, or its data, smaller")).into()
}

fn too_large(error: &io::Error) -> FillError {
    FieldError::new("data", format!("they cannot be filled in: {error}")).into()
}

fn unavailable(reason: &str) -> FillError {
    FillError::Unavailable { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(signal: i32, words: &str) -> Ended {
        Ended { status: Some(ExitStatus::from_raw(signal)), final_replys: words.to_owned() }
    }

    #[test]
    fn the_bound_that_was_broken_is_named() {
        for (ended, reason) in [
            (ended(6, "thread 'templates' has overflowed its stack"), "nested too deeply"),
            (ended(6, "memory allocation of 4096 bytes failed"), "128 MiB"),
            (ended(24, ""), "longer than"),
            (ended(11, ""), "nested too deeply, or"),
        ] {
            let FillError::Field(error) = cause(&ended) else { panic!("{ended:?}") };
            assert!(error.field == "template" && error.reason.contains(reason), "{ended:?}: {error}");
        }
        assert!(matches!(cause(&ended(9, "")), FillError::Unavailable { .. }), "it was killed");
    }

    #[tokio::test]
    async fn a_program_that_is_stopped_is_no_fault_of_the_template() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("stopped");
        std::fs::write(&program, "#!/bin/sh\nkill -STOP $$\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let template =
            Template { subject: "x".to_owned(), text: Some("x".to_owned()), html: None, sample: Value::Null };
        let answer = Filler::new(Some(program)).check(&template).await;
        assert!(matches!(answer, Err(FillError::Unavailable { .. })), "{answer:?}");
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_no_fault_of_the_template() {
        let filler = Filler::new(Some("/nowhere/mail".into()));
        let template =
            Template { subject: "x".to_owned(), text: Some("x".to_owned()), html: None, sample: Value::Null };
        assert!(matches!(filler.check(&template).await, Err(FillError::Unavailable { .. })));
    }
}
