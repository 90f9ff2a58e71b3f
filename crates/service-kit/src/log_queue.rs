//! The way of a log line to standard error: a queue that never makes its caller wait, and a thread that may wait.
//!
//! Standard error is often a pipe, and a pipe whose reader stops (a log driver, a paused terminal, a busy journal)
//! holds 64 KiB; the write after that blocks until the reader goes on. A service must not wait for that, so the lines
//! wait instead: at most [`WAITING_MAX_BYTES`] of them, while a thread of its own writes what came before. A line that
//! finds no room is lost, and counted: in `log_lines_lost_total`, and in a line in its place once there is room again.
//!
//! `tracing-appender` offers nearly this. Its queue is bounded in lines and not in bytes, so that long lines make it
//! hold as much memory as they like; it tells of lost lines only in a counter; and it writes each line with a call of
//! its own.

use std::{
    io::{self, ErrorKind, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

/// How many bytes of lines may wait: some two thousand lines of JSON. As many again are with the thread that writes.
const WAITING_MAX_BYTES: usize = 1024 * 1024;

/// How long to wait when standard error is non-blocking (its other holders decide that) and takes nothing now.
const PAUSE: Duration = Duration::from_millis(10);

/// The queue. Cheap to clone; all clones are the same queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something for the thread to do.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    lost: Counter,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// How many lines were lost after the last one that waits. While there are any, no line is taken, so that the lost
    /// ones are all in one place.
    lost: u64,
    /// Whether the thread has lines of its own that it is writing.
    is_writing: bool,
}

impl LogQueue {
    /// Takes a line, or counts it as lost. Never waits for the reader.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        let was_idle = state.is_idle();
        if state.lost > 0 || state.waiting.len() + line.len() > WAITING_MAX_BYTES {
            state.lost += 1;
            self.0.lost.inc();
        } else {
            state.waiting.extend_from_slice(line);
        }
        drop(state);
        if was_idle {
            self.0.filled.notify_one();
        }
    }

    /// Lines that were lost, since the process began.
    pub(crate) fn lost(&self) -> Counter {
        self.0.lost.clone()
    }

    /// Waits until everything is written, for `limit` at most.
    pub(crate) fn flush(&self, limit: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.is_idle();
        // Not written in time: then it is not written.
        let _late = self.0.emptied.wait_timeout_while(self.state(), limit, is_busy);
    }

    /// Writes whatever comes to `out`, for ever. `tell` pushes a line into this queue which says how many were lost.
    pub(crate) fn run(&self, mut out: impl Write, tell: impl Fn(u64)) {
        let mut lines = Vec::new();
        let mut untold = 0;
        let mut is_open = true;
        loop {
            untold += self.take(&mut lines);
            // There is room now, and this comes right behind the lines before the lost ones. When nothing could be
            // written the last time it waits: it would be lost as well, and have to be told of in turn.
            if is_open && untold > 0 {
                tell(std::mem::take(&mut untold));
            }
            let left = write(&mut out, &lines);
            is_open = left == 0;
            untold += left;
            self.0.lost.inc_by(left);
            self.has_written();
        }
    }

    /// Takes what waits, as soon as there is anything, in place of what is in `lines`; how many lines were lost behind
    /// it.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        lines.clear();
        let state = self.0.filled.wait_while(self.state(), |state| state.is_idle());
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(lines, &mut state.waiting);
        state.is_writing = true;
        std::mem::take(&mut state.lost)
    }

    fn has_written(&self) {
        let mut state = self.state();
        state.is_writing = false;
        if state.is_idle() {
            self.0.emptied.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the thread has nothing to do, but for what it is doing.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.lost == 0
    }
}

/// Writes all of `lines`, however long it takes; how many of them could not be written, because the other end is gone.
fn write(out: &mut impl Write, lines: &[u8]) -> u64 {
    let mut rest = lines;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Ok(0) | Err(_) => return lines_in(rest),
        }
    }
    0
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').map(|_| 1).sum()
}

// === as a writer of tracing's ===

/// One event's way in. The subscriber writes an event as one piece, with the end of its line.
#[derive(Debug)]
pub(crate) struct LineWriter<'a>(&'a LogQueue);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Takes a piece only when it is asked for one.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (LogQueue, Receiver<Vec<u8>>) {
        let ((sender, receiver), queue) = (sync_channel(0), LogQueue::default());
        let thread = queue.clone();
        std::thread::spawn(move || thread.run(Pipe(sender), |lost| thread.push(format!("lost {lost}\n").as_bytes())));
        (queue, receiver)
    }

    /// Fills the queue while the thread is stuck with its first line.
    fn fill(queue: &LogQueue) -> usize {
        queue.push(b"first\n");
        while !queue.state().is_writing {
            std::thread::yield_now();
        }
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        (0..1030).for_each(|_| queue.push(&line));
        queue.push(b"short\n");
        line.len()
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted_and_told_of_in_its_place() {
        let (queue, pipe) = start();
        let length = fill(&queue);
        assert_eq!(queue.lost().get(), 7, "1024 lines fit; what comes behind a lost line is lost, too");
        assert_eq!(pipe.recv_timeout(LONG).unwrap(), b"first\n");
        assert_eq!(pipe.recv_timeout(LONG).unwrap().len(), 1024 * length);
        assert_eq!(pipe.recv_timeout(LONG).unwrap(), b"lost 7\n");
        queue.push(b"and on\n");
        assert_eq!(pipe.recv_timeout(LONG).unwrap(), b"and on\n");
        queue.flush(LONG);
        assert!(queue.state().is_idle() && queue.state().waiting.capacity() <= 2 * WAITING_MAX_BYTES);
    }

    #[test]
    fn a_line_that_is_too_long_for_all_is_lost_alone() {
        let (queue, pipe) = start();
        queue.push(&vec![b'x'; WAITING_MAX_BYTES + 1]);
        assert_eq!(pipe.recv_timeout(LONG).unwrap(), b"lost 1\n");
    }

    #[test]
    fn the_end_waits_for_the_last_lines_and_not_for_ever() {
        let (queue, pipe) = start();
        queue.push(b"stuck\n");
        queue.flush(Duration::from_millis(50));
        let reader = std::thread::spawn(move || pipe.recv_timeout(LONG));
        queue.flush(LONG);
        assert_eq!(reader.join().unwrap().unwrap(), b"stuck\n");
    }

    #[test]
    fn lines_without_a_reader_are_counted_as_lost() {
        let (queue, pipe) = start();
        drop(pipe);
        for lost in 1..=3 {
            queue.push(b"a line\n");
            queue.flush(LONG);
            assert_eq!(queue.lost().get(), lost);
        }
    }
}
