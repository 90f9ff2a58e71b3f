//! Work that is finished whether or not anybody still waits for it.
//!
//! It is done in the task of the request that waits for it, which costs nothing. When that is dropped, because the client
//! has left or the deadline has passed, what is left of the work goes on in a task of its own: at the cost of the same
//! payer, and its log lines are the same request's.
//!
//! Who waits for it polls it whenever it is woken, or drops it: work that is kept and not polled holds its slot. So a
//! response begins none before the parts that it has given are sent (`grpc::register`).

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use service_kit::request;
use tokio::runtime::Handle;

use crate::admission::writes;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Gives what the work comes to; the words of its panic if it does not.
pub(super) struct Finished<T: Send + 'static> {
    /// `None`: it has ended.
    work: Option<Work<T>>,
}

// === impl Finished ===

impl<T: Send + 'static> Finished<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)) }
    }
}

impl<T: Send + 'static> Future for Finished<T> {
    type Output = Result<T, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.work.as_mut().expect("it is not polled again when it has ended");
        // What panicked is not polled again, so no caller sees what it left half done.
        let polled = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => Ok(result),
            Err(panic) => Err(words(&*panic)),
        };
        self.work = None;
        Poll::Ready(polled)
    }
}

impl<T: Send + 'static> Drop for Finished<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        // Outside a runtime, in a process that ends, there is nothing to go on in.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(writes::paid_by(writes::payer(), request::continuing(work)));
        }
    }
}

/// What the panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}
