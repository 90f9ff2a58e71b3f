//! A request whose client has closed its connection, which the kernel knows and the runtime does not yet.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use axum::{Router, routing::put};
use service_kit::serve::{ServeOptions, ensure_client_connected, serve};
use testkit::{sockets::wait_until_closed_by_client, wait::SOON};
use tokio::{net::TcpListener, runtime};
use tokio_util::sync::CancellationToken;

const REQUEST: &[u8] = b"PUT / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A server whose handler holds its thread until it may go on: no driver runs meanwhile.
struct Held {
    address: SocketAddr,
    arrived: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
    begun: Arc<AtomicUsize>,
    runtime: runtime::Runtime,
}

impl Held {
    fn start(threads: usize) -> Self {
        let (arrives, arrived) = mpsc::channel();
        let (go_on, gate) = mpsc::channel();
        let gate = Arc::new(Mutex::new(gate));
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&begun);
        let handler = move || {
            let arrives = arrives.clone();
            let gate = Arc::clone(&gate);
            let begun = Arc::clone(&counter);
            async move {
                arrives.send(()).unwrap();
                gate.lock().unwrap().recv().unwrap();
                ensure_client_connected().await;
                begun.fetch_add(1, Ordering::SeqCst);
            }
        };
        let runtime = runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", put(handler));
        runtime.spawn(serve(listener, router, ServeOptions::default(), CancellationToken::new()));
        Self { address, arrived, go_on, begun, runtime }
    }

    fn send(&self, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(request).unwrap();
        self.arrived.recv_timeout(SOON).unwrap();
        stream
    }

    fn go_on(&self) {
        self.go_on.send(()).unwrap();
    }
}

#[test]
fn what_its_client_has_given_up_is_not_begun() {
    for threads in [1, 3] {
        let held = Held::start(threads);
        for _ in 0..50 {
            drop(held.send(REQUEST));
            wait_until_closed_by_client(held.address, 1, SOON);
            held.go_on();
            // Before the next one is closed, this one has ended.
            wait_until_closed_by_client(held.address, 0, SOON);
        }
        // What its client still waits for is.
        let mut stream = held.send(REQUEST);
        held.go_on();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
        held.runtime.shutdown_timeout(SOON);
        assert_eq!(held.begun.load(Ordering::SeqCst), 1, "with {threads} threads");
    }
}
