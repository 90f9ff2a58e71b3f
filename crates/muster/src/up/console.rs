//! The terminal: every line that `muster up` shows goes through here.
//!
//! Writing to a terminal can block for as long as it is paused (Ctrl-S, a full pipe to a pager). If `muster`
//! waited for it, the children's pipes would fill and they would stop too, in the middle of a request. So a thread of
//! its own writes, and what it cannot keep up with is counted and left out. When the terminal is gone altogether,
//! nothing is shown and everything goes on.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use crate::{environment::Environment, terminal::screen::is_coloured, up::log_prefix::LogPrefix};

/// How many lines may wait for a slow terminal.
const WAITING_MAX: usize = 10_000;

/// How many bytes of lines may wait for it: a line of a process may have 16 KiB, so that the number alone bounds
/// nothing.
const WAITING_MAX_BYTES: usize = 4 * 1024 * 1024;

/// How long the end of the program waits for the last lines to be shown.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    sender: SyncSender<Message>,
    waiting_bytes: Arc<AtomicUsize>,
    left_out: Arc<AtomicU64>,
    is_hushed: Arc<AtomicBool>,
    prefix: Arc<LogPrefix>,
}

#[derive(Debug)]
enum Message {
    Line(String),
    /// Everything before this was written; say so.
    Flush(SyncSender<()>),
}

// === impl Console ===

impl Console {
    /// Lines of the processes `names`, and `muster`'s own, on standard output.
    pub(crate) fn start(names: Vec<String>, environment: &Environment) -> Self {
        let coloured = is_coloured(std::io::stdout().is_terminal(), environment);
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::clone(&waiting_bytes);
        std::thread::spawn(move || write_all(&receiver, &waiting));
        Self {
            sender,
            waiting_bytes,
            left_out: Arc::default(),
            is_hushed: Arc::default(),
            prefix: LogPrefix::new(names, coloured).into(),
        }
    }

    /// Shows a line of `muster` itself.
    pub(crate) fn say(&self, text: &str) {
        self.send(self.prefix.own(text));
    }

    /// Shows a line of a process.
    pub(crate) fn child(&self, name: &str, text: &str) {
        self.send(self.prefix.line(name, text));
    }

    /// Shows a line of a process that is of interest only while all is as it should be.
    pub(crate) fn aside(&self, name: &str, text: &str) {
        if !self.is_hushed.load(Ordering::Relaxed) {
            self.child(name, text);
        }
    }

    /// Whether [`Console::aside`] is left out: while things come up or go down on purpose.
    pub(crate) fn hush(&self, is_hushed: bool) {
        self.is_hushed.store(is_hushed, Ordering::Relaxed);
    }

    /// Shows text as it is.
    pub(crate) fn plain(&self, text: &str) {
        self.send(text.to_owned());
    }

    fn send(&self, line: String) {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let note = self.prefix.own(&format!("({left_out} lines are not shown: the terminal is too slow)"));
            if !self.enqueue(note) {
                self.left_out.fetch_add(left_out, Ordering::Relaxed);
            }
        }
        if !self.enqueue(line) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether there was room for `line`.
    fn enqueue(&self, line: String) -> bool {
        let bytes = line.len();
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_taken = waiting + bytes <= WAITING_MAX_BYTES && self.sender.try_send(Message::Line(line)).is_ok();
        if !is_taken {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_taken
    }

    /// Waits until everything was shown, for a second at most.
    pub(crate) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            // Not shown in time: then it is not shown.
            let _ = is_done.recv_timeout(LAST_LINES);
        }
    }
}

fn write_all(lines: &Receiver<Message>, waiting_bytes: &AtomicUsize) {
    let mut stdout = std::io::stdout();
    for message in lines {
        // The terminal may be gone. The error cannot be shown anywhere, and the lines must still be taken.
        match message {
            Message::Line(line) => {
                let _ = writeln!(stdout, "{line}");
                waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Message::Flush(done) => {
                let _ = stdout.flush();
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines_max: usize) -> (Console, Receiver<Message>) {
        let (sender, receiver) = sync_channel(lines_max);
        let prefix = Arc::new(LogPrefix::new(Vec::new(), false));
        let waiting_bytes = Arc::default();
        let left_out = Arc::default();
        (Console { sender, waiting_bytes, left_out, is_hushed: Arc::default(), prefix }, receiver)
    }

    #[test]
    fn long_lines_that_wait_are_bounded_in_bytes() {
        let (console, receiver) = console(WAITING_MAX);
        let line = "x".repeat(16 * 1024);
        for _ in 0..1000 {
            console.plain(&line);
        }
        assert_eq!(receiver.try_iter().count(), WAITING_MAX_BYTES / line.len());
        assert_eq!(console.waiting_bytes.load(Ordering::Relaxed), WAITING_MAX_BYTES, "until they are written");
    }

    #[test]
    fn a_terminal_that_does_not_keep_up_costs_lines_and_never_time() {
        let (console, receiver) = console(2);
        for n in 0..10 {
            console.plain(&n.to_string());
        }
        let shown = |message| match message {
            Message::Line(line) => line,
            Message::Flush(_) => "flush".to_owned(),
        };
        assert_eq!(receiver.try_iter().map(shown).collect::<Vec<_>>(), ["0", "1"]);
        console.plain("again");
        let note = "muster │ (8 lines are not shown: the terminal is too slow)";
        assert_eq!(receiver.try_iter().map(shown).collect::<Vec<_>>(), [note, "again"]);
    }
}
