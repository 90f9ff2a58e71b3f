//! hyper as a second reader: for every request that is accepted, it must see the same body and the same next request.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{any, checks};

/// Method, target and body of a request.
type Seen = (String, String, Vec<u8>);

const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: next\r\nConnection: close\r\n\r\n";

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What hyper's server sees in `bytes`.
async fn hyper_sees(bytes: &[u8]) -> Vec<Seen> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (client, server) = duplex(64 << 10);
    let note = service_fn(|request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let body = body.to_bytes().to_vec();
                seen.lock().unwrap().push((head.method.to_string(), head.uri.to_string(), body));
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let serve = http1::Builder::new().serve_connection(TokioIo::new(server), note);
    let (mut reader, mut writer) = tokio::io::split(client);
    let send = async {
        // It may close before it has read everything.
        let _ = writer.write_all(bytes).await;
        let mut answers = Vec::new();
        let _ = reader.read_to_end(&mut answers).await;
    };
    timeout(Duration::from_secs(20), async { tokio::join!(serve, send) }).await.expect("it ends").0.ok();
    let seen = seen.lock().unwrap();
    seen.clone()
}

proptest! {
    #[test]
    fn hyper_sees_the_same_body_and_the_same_next_request(message in any::request()) {
        let seen = runtime().block_on(hyper_sees(&[&message.bytes(), NEXT].concat()));
        let ours = checks::request(&message.head).unwrap().unwrap();
        prop_assert_eq!(seen[0].0.as_bytes(), ours.start[0].as_slice());
        let path_and_query = ours.start.last().unwrap();
        prop_assert!(seen[0].1.as_bytes().ends_with(path_and_query), "{:?}", seen);
        prop_assert_eq!(&seen[0].2, &message.content);
        prop_assert_eq!(seen.len(), if ours.keep_alive { 2 } else { 1 });
        prop_assert!(!ours.keep_alive || seen[1].1 == "/next", "{:?}", seen);
    }
}
