//! A body that is counted, limited and hashed while it is read.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read},
    rc::Rc,
};

use ring::digest::{Context, SHA256};

/// What was read so far, and how much more may be. Clones share it.
#[derive(Clone)]
pub(super) struct ReadLimit {
    hash: Rc<RefCell<Context>>,
    left: Rc<Cell<Option<usize>>>,
}

/// Reads `body`, as far as its limit allows.
pub(super) struct LimitedReader<R> {
    body: R,
    limit: ReadLimit,
}

/// There is more than was allowed.
#[derive(Debug, thiserror::Error)]
#[error("there are too many bytes between two fields")]
pub(super) struct TooLarge;

// === impl ReadLimit ===

impl ReadLimit {
    pub(super) fn new(allowed: usize) -> Self {
        Self { hash: Rc::new(RefCell::new(Context::new(&SHA256))), left: Rc::new(Cell::new(Some(allowed))) }
    }

    /// Limits and hashes `body`.
    pub(super) fn read<R>(&self, body: R) -> LimitedReader<R> {
        LimitedReader { body, limit: self.clone() }
    }

    /// From now on, so many bytes may be read; `None`: any number.
    pub(super) fn allow(&self, bytes: Option<usize>) {
        self.left.set(bytes);
    }

    /// SHA-256 of everything, in hexadecimal.
    pub(super) fn fingerprint(&self) -> String {
        hex::encode(self.hash.borrow().clone().finish())
    }
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(out)?;
        self.limit.hash.borrow_mut().update(&out[..count]);
        if let Some(left) = self.limit.left.get() {
            self.limit.allow(Some(left.checked_sub(count).ok_or_else(|| io::Error::other(TooLarge))?));
        }
        Ok(count)
    }
}

/// Whether reading failed because of that.
pub(super) fn is_too_large(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<TooLarge>())
}
