//! The program that fills templates: this one, started with [`COMMAND`], in limits that it sets itself.
//!
//! What a template does cannot be bounded from within: one filter can make a string of any length in one step, a
//! constant is folded while it is compiled, a value that refers to itself twice, forty times over, takes for ever to be
//! counted, and what is nested deeply enough overflows the stack, which no program survives. So the limits are those of
//! the operating system for a process of its own, and what breaks them ends that process and nothing else.
//!
//! | bound | limit |
//! |---|---|
//! | bytes | [`MEMORY_BYTES`] beyond what the program itself has (`RLIMIT_DATA`, `RLIMIT_AS`) |
//! | depth | a stack of [`STACK_BYTES`] |
//! | time | [`CPU_S`] of the processor for each template (`RLIMIT_CPU`); the parent waits a bounded time, too |

use std::{io, panic, process::ExitCode, thread};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};

use super::{
    Template,
    frame::{self, Answer, Question},
};

/// The argument that makes this program fill templates.
pub const COMMAND: &str = "fill-templates";
/// How much memory templates and data may take: 128 MiB. The largest that are let in need less than half of it.
pub const MEMORY_BYTES: u64 = 128 * 1024 * 1024;
/// How much of the address space may be reserved without being used, which allocators do.
const RESERVED_BYTES: u64 = 512 * 1024 * 1024;
/// The stack: 8 MiB, what programs usually have.
pub const STACK_BYTES: usize = 8 * 1024 * 1024;
/// Seconds of processor time for one template.
pub const CPU_S: u64 = 4;

/// Answers questions until there are no more.
#[must_use]
pub fn main() -> ExitCode {
    // A template that cannot be filled is the parent's news.
    panic::set_hook(Box::new(|_| {}));
    let serving = thread::Builder::new().name("templates".to_owned()).stack_size(STACK_BYTES).spawn(serve);
    match serving.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    limit_memory()?;
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    while let Some(question) = frame::read(&mut input)? {
        limit_time()?;
        let answer = panic::catch_unwind(|| answer(question)).unwrap_or_else(|_| broken());
        frame::write(&mut output, &answer)?;
    }
    Ok(())
}

fn answer(question: Question) -> Answer {
    let answered = match question {
        Question::Check(template) => template.check().map(|()| Answer::Checked),
        Question::Fill(template, data) => Template::fill(&template, &data).map(Answer::Filled),
    };
    answered.unwrap_or_else(|error| Answer::Refused { field: error.field.into_owned(), reason: error.reason })
}

/// minijinja panics where a length overflows.
fn broken() -> Answer {
    let reason = "it cannot be filled: something in it becomes larger than any memory; look for large numbers";
    Answer::Refused { field: "template".to_owned(), reason: reason.to_owned() }
}

fn limit_memory() -> io::Result<()> {
    // No file of what was in memory, which holds names and addresses.
    lower(Resource::RLIMIT_CORE, 0)?;
    let (size, data) = taken()?;
    lower(Resource::RLIMIT_DATA, data + MEMORY_BYTES)?;
    lower(Resource::RLIMIT_AS, size + MEMORY_BYTES + RESERVED_BYTES)
}

/// Bytes of the address space, and of those that are data: `proc_pid_statm(5)`, in pages.
fn taken() -> io::Result<(u64, u64)> {
    const PAGE_BYTES: u64 = 4096;
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return Ok((0, 0)) };
    let pages: Vec<u64> = text.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
    match pages.as_slice() {
        [size, _, _, _, _, data, ..] => Ok((size * PAGE_BYTES, data * PAGE_BYTES)),
        _ => Err(io::Error::other("/proc/self/statm cannot be read")),
    }
}

/// Another [`CPU_S`] from now on.
fn limit_time() -> io::Result<()> {
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = used.user_time().tv_sec() + used.system_time().tv_sec();
    // The seconds that are cut off here, and one that is begun.
    lower(Resource::RLIMIT_CPU, u64::try_from(seconds).unwrap_or_default() + 2 + CPU_S)
}

/// The soft limit alone: it can be raised again.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    Ok(setrlimit(resource, limit.min(hard), hard)?)
}
