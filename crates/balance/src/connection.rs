//! One client connection from its first byte to its last: hyper's HTTP/1.1 around [`Gateway::handle`], with an end that
//! loses no answer.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use service_kit::chain;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client_stream::ClientStream,
    downstream::{Downstream, Waiting},
    gateway::Gateway,
    identity,
    refusal::Refusal,
    reply,
};

/// hyper's own smallest buffer; header limits below it are held by [`http1::Builder::max_header_size`].
const BUFFER_MAX_BYTES: usize = 64 * 1024;

/// How long a client may take to notice that its answer is there, before the connection is closed on it.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// How a connection ended.
enum End {
    /// HTTP is done, in order or not.
    Over(hyper::Result<()>),
    /// No request came for too long.
    Idle,
    /// The head of a request took too long.
    HeaderTimeout,
}

/// Serves the requests of one connection, one after the other, until either side ends it.
pub(crate) async fn serve(stream: TcpStream, gateway: Rc<Gateway>, downstream: Rc<Downstream>) {
    let options = Rc::clone(&gateway.options);
    let (limits, timeouts) = (options.limits, options.timeouts);
    let stream = ClientStream::new(stream, Rc::clone(&downstream), timeouts, limits, gateway.refusals.clone());
    let service = service_fn(|request| {
        let answer = Rc::clone(&gateway).handle(request, Rc::clone(&downstream));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = builder(&gateway).serve_connection(TokioIo::new(stream), service);
    let end = poll_fn(|cx| {
        downstream.remember(cx.waker());
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(result) => Poll::Ready(End::Over(result)),
            Poll::Pending if downstream.is_over(Waiting::Request) => Poll::Ready(End::Idle),
            Poll::Pending if downstream.is_over(Waiting::Head) => Poll::Ready(End::HeaderTimeout),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let stream = connection.into_parts().io.into_inner().into_inner();
    match end {
        End::Over(Ok(())) if !downstream.leaves_unread() => {}
        End::Over(result) => {
            if let Err(error) = &result {
                tracing::debug!(client = %downstream.address, error = %chain(error), "connection ended early");
            }
            if downstream.leaves_unread() {
                linger(stream).await;
            }
        }
        End::Idle => {}
        End::HeaderTimeout => {
            let refusal = Refusal::HeaderTimeout(timeouts.header_timeout);
            gateway.refusals.count(&refusal);
            say_last_words(stream, &refusal).await;
        }
    }
}

fn builder(gateway: &Gateway) -> http1::Builder {
    let limits = &gateway.options.limits;
    let mut http = http1::Builder::new();
    // Deadlines are the downstream's, so hyper needs no timer.
    http.header_read_timeout(None)
        .max_header_size(limits.header_max_bytes)
        .max_buf_size(BUFFER_MAX_BYTES.max(limits.header_max_bytes));
    if limits.header_fields_max != 100 {
        // 100 is hyper's own limit, and the only one that costs it no allocation.
        http.max_headers(limits.header_fields_max);
    }
    http
}

/// Answers a connection that HTTP is done with, and closes it.
pub(crate) async fn say_last_words(mut stream: TcpStream, refusal: &Refusal) {
    let bytes = reply::last_words(refusal, &identity::new_id());
    let _gone = timeout(LINGER_MAX, stream.write_all(&bytes)).await;
    linger(stream).await;
}

/// Says that nothing more will come, and reads and forgets until the client has noticed. Closing at once would reset the
/// connection when the client is still sending, and take the answer away from it (RFC 9112, section 9.6).
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut scratch = [0; 4096];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    let _best_effort = timeout(LINGER_MAX, drain).await;
}
