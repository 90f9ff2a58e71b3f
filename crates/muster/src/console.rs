//! The terminal: every line that `muster up` shows goes through here.
//!
//! Writing to a terminal can block for as long as somebody has it paused (Ctrl-S, a full pipe to a pager). If `muster`
//! waited for it, the children's pipes would fill and they would stop too, in the middle of a request. So a thread of
//! its own writes, and what it cannot keep up with is counted and left out. When the terminal is gone altogether,
//! nothing is shown and everything goes on.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use crate::{
    environment::{Environment, is_given},
    log_prefix::LogPrefix,
};

/// How many lines may wait for a slow terminal.
const WAITING_MAX: usize = 10_000;

/// How long the end of the program waits for the last lines to be shown.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    sender: SyncSender<Message>,
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
        std::thread::spawn(move || write_all(&receiver));
        Self {
            sender,
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
            if self.sender.try_send(Message::Line(note)).is_err() {
                self.left_out.fetch_add(left_out, Ordering::Relaxed);
            }
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Line(line)) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
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

fn write_all(lines: &Receiver<Message>) {
    let mut stdout = std::io::stdout();
    for message in lines {
        // The terminal may be gone. There is nobody left to tell, and the lines must still be taken.
        match message {
            Message::Line(line) => drop(writeln!(stdout, "{line}")),
            Message::Flush(done) => {
                let _ = stdout.flush();
                let _ = done.send(());
            }
        }
    }
}

/// Colours are for terminals that know them, and for people who have not said no (<https://no-color.org>).
fn is_coloured(is_terminal: bool, environment: &Environment) -> bool {
    let is_dumb = environment.get(std::ffi::OsStr::new("TERM")).is_some_and(|term| term == "dumb");
    is_terminal && !is_dumb && !is_given(environment, "NO_COLOR")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::sample;

    #[test]
    fn colours_are_for_terminals_whose_owner_does_not_object() {
        assert!(is_coloured(true, &sample(&[("TERM", "xterm"), ("NO_COLOR", "")])));
        assert!(!is_coloured(false, &sample(&[])));
        assert!(!is_coloured(true, &sample(&[("NO_COLOR", "1")])));
        assert!(!is_coloured(true, &sample(&[("TERM", "dumb")])));
    }

    #[test]
    fn a_terminal_that_does_not_keep_up_costs_lines_and_never_time() {
        let (sender, receiver) = sync_channel(2);
        let prefix = Arc::new(LogPrefix::new(Vec::new(), false));
        let console = Console { sender, left_out: Arc::default(), is_hushed: Arc::default(), prefix };
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
