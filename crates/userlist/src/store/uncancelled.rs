//! Work that goes to its end, also when no request waits for it any more.
//!
//! It runs in the task that waits for it, because a task of its own costs two switches between tasks for each query.
//! Only what is left of it when the wait is given up becomes one.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;

/// A future that goes on in a task of its own when it is dropped before its end; unless the runtime ends.
pub(super) struct Uncancelled<T: Send + 'static>(Option<BoxFuture<'static, T>>);

// === impl Uncancelled ===

impl<T: Send + 'static> Uncancelled<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Uncancelled<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out while it is polled: one that panics must not be polled again.
        let mut work = self.0.take().expect("a future is not polled after its end");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Uncancelled<T> {
    fn drop(&mut self) {
        if let (Some(rest), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { drop(rest.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    #[tokio::test]
    async fn what_is_given_up_goes_to_its_end() {
        let (go_on, wait) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let mut work = Uncancelled::new(async move {
            wait.await.unwrap();
            ended.send(()).unwrap();
        });
        assert!(futures::poll!(&mut work).is_pending());
        drop(work);
        go_on.send(()).unwrap();
        timeout(Duration::from_secs(10), end).await.expect("it goes on").unwrap();
    }

    #[tokio::test]
    async fn what_panics_is_not_polled_again() {
        let task = tokio::spawn(Uncancelled::new(async { panic!("a bug") }));
        assert!(task.await.unwrap_err().is_panic());
    }
}
