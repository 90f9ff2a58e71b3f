//! One thread per core: its own runtime, its own listener, its own everything.
//!
//! The kernel spreads connections over the listeners, which share one port (`SO_REUSEPORT`). A connection stays on the
//! core that accepted it, with the connections to the instances that its requests use; nothing is handed to another
//! thread, and nothing is locked.
//!
//! The end is in order, and within [`GatewayOptions::drain_timeout`]. From its first moment every response says that it is
//! the last of its connection. A connection without a request closes half a second later, so that a request that was sent
//! before its client could know of the end is answered; requests under way, also half a head, are finished. New
//! connections are accepted, and answered, meanwhile (`ending` says for how long); then those that wait in the kernel are,
//! and the listener closes.

use std::{
    cell::Cell,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    pin::pin,
    rc::Rc,
};

use service_kit::{
    chain,
    connections::{Connections, Full, Place},
    networks, open_files,
    serve::BindError,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    addresses::AddressPolicy,
    clock::{Millis, TICK},
    config::GatewayOptions,
    downstream::deadlines::ConnectionTimers,
    listener::{
        connection,
        ending::{BusyCores, Ending, Load},
        listeners::Listeners,
    },
    message::{gateway_error::GatewayError, headers::Client, problem_response},
    proxy::context::Gateway,
    table::routing_table::TableHandle,
    telemetry::metrics::DataMetrics,
};

/// Clients without a permit that are answered at the same time, per core; the connections of others are just closed.
const REJECTIONS_MAX: usize = 64;

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    address: SocketAddr,
    stop: CancellationToken,
    /// Closed when the last thread has ended.
    ended: mpsc::Receiver<()>,
}

/// Why there are no workers.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process began to listen there.
    #[error("the workers cannot begin")]
    Listen(#[from] BindError),
    /// The operating system gives no thread.
    #[error("cannot start worker {core}")]
    Thread {
        /// Which one.
        core: usize,
        /// Why not.
        source: io::Error,
    },
}

// === impl Workers ===

impl Workers {
    /// Begins to listen, with one thread per listener, serving from `table`.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn start(
        listeners: Listeners,
        options: &GatewayOptions,
        addresses: &AddressPolicy,
        table: &TableHandle,
        metrics: &DataMetrics,
    ) -> Result<Self, StartError> {
        let (stop, (guard, ended)) = (CancellationToken::new(), mpsc::channel(1));
        let (address, busy_cores) = (listeners.address(), BusyCores::all(listeners.cores()));
        for (core, listener) in listeners.listen()?.into_iter().enumerate() {
            let seed = WorkerSpec {
                core,
                listener,
                options: options.clone(),
                addresses: addresses.clone(),
                table: table.clone(),
                metrics: metrics.clone(),
                stop: stop.clone(),
                busy_cores: busy_cores.clone(),
            };
            let guard = guard.clone();
            std::thread::Builder::new()
                .name(format!("balance-{core}"))
                .spawn(move || {
                    seed.run();
                    drop(guard);
                })
                .map_err(|source| StartError::Thread { core, source })?;
        }
        Ok(Self { address, stop, ended })
    }

    /// Where they listen.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks all to end in order.
    pub fn drain(&self) {
        self.stop.cancel();
    }

    /// Waits until all have ended.
    pub async fn ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

// === one worker ===

/// What a thread is given to start with.
struct WorkerSpec {
    core: usize,
    listener: StdListener,
    options: GatewayOptions,
    addresses: AddressPolicy,
    table: TableHandle,
    metrics: DataMetrics,
    stop: CancellationToken,
    busy_cores: BusyCores,
}

impl WorkerSpec {
    fn run(self) {
        let mut builder = Builder::new_current_thread();
        let runtime = match builder.enable_io().enable_time().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(core = self.core, error = %chain(&error), "cannot start the runtime of a worker");
                return;
            }
        };
        runtime.block_on(async move {
            let core = self.core;
            match self.build() {
                Ok((worker, listener)) => worker.serve(listener).await,
                Err(error) => tracing::error!(core, error = %chain(&error), "cannot listen in a worker"),
            }
        });
    }

    fn build(self) -> io::Result<(Worker, TcpListener)> {
        let Self { core, listener, options, addresses, table, metrics, stop, busy_cores } = self;
        let gateway = Gateway::new(core, options, table, addresses, metrics.refusals);
        let connections = metrics.connections;
        let ending = Ending::new(busy_cores, gateway.options.drain_timeout);
        let worker = Worker { gateway: Rc::new(gateway), connections, rejections: Rc::default(), stop, ending };
        Ok((worker, TcpListener::from_std(listener)?))
    }
}

struct Worker {
    gateway: Rc<Gateway>,
    connections: Connections,
    /// How many clients without a permit are being answered.
    rejections: Rc<Cell<usize>>,
    stop: CancellationToken,
    ending: Ending,
}

impl Worker {
    async fn serve(self, listener: TcpListener) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.accept_until(&listener, &mut ticks, self.stop.cancelled()).await;
        let downstreams = &self.gateway.downstreams;
        let deadline = Instant::now() + self.gateway.options.drain_timeout;
        self.gateway.tick();
        downstreams.drain();
        self.accept_until(&listener, &mut ticks, self.time_to_close()).await;
        self.drain_accept_queue(listener);
        while (!downstreams.is_empty() || self.rejections.get() > 0) && Instant::now() < deadline {
            ticks.tick().await;
            self.gateway.tick();
        }
        let left = downstreams.busy();
        if left > 0 {
            tracing::warn!(core = self.gateway.core, left, "requests were still under way at the end");
        }
    }

    /// Waits, since the end has begun, until it is time to stop listening.
    async fn time_to_close(&self) {
        let (began, downstreams) = (Instant::now(), &self.gateway.downstreams);
        let mut looks = interval(TICK);
        loop {
            looks.tick().await;
            let load = Load { has_old: downstreams.has_old(), busy: downstreams.busy() };
            if self.ending.is_time(began.elapsed(), load) {
                return;
            }
        }
    }

    /// Accepts and ticks until `end`.
    async fn accept_until(&self, listener: &TcpListener, ticks: &mut Interval, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => break,
                _ = ticks.tick() => self.gateway.tick(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => self.accept(stream, client),
                    Err(error) => {
                        // Accepting again at once would spin, also when another connection is about to give its file back.
                        if !open_files::is_exhausted(&error) || !self.connections.evict_for_files(Millis::now().0) {
                            tracing::warn!(error = %chain(&error), "cannot accept a connection");
                        }
                        ticks.tick().await;
                        self.gateway.tick();
                    }
                },
            }
        }
    }

    /// Accepts connections that the kernel has already completed, then closes the listener.
    fn drain_accept_queue(&self, listener: TcpListener) {
        // The kernel is asked directly: the runtime may not know yet of a connection that has come.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, client)) = listener.accept() {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                self.accept(stream, client);
            }
        }
    }

    fn accept(&self, stream: TcpStream, client: SocketAddr) {
        let trusted = &self.gateway.options.trust_forwarded_from;
        let is_trusted = networks::contain(trusted, client.ip());
        // Not the core's clock, which a busy core moves late: the newest would pass for the oldest.
        match self.connections.admit(client.ip(), is_trusted, Millis::now().0) {
            Ok(seat) => self.admit(stream, Client::new(client.ip(), is_trusted), seat),
            Err(full) => {
                let refusal = GatewayError::Overloaded(reason(full));
                self.gateway.refusals.count(&refusal);
                if self.rejections.get() < REJECTIONS_MAX {
                    self.rejections.set(self.rejections.get() + 1);
                    let rejections = Rc::clone(&self.rejections);
                    let bytes = self.gateway.clock.with_date(|date| problem_response::error_response(&refusal, date));
                    let gateway = Rc::clone(&self.gateway);
                    tokio::task::spawn_local(async move {
                        connection::reject_connection(stream, &bytes, &gateway.lingering).await;
                        rejections.set(rejections.get() - 1);
                    });
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, client: Client, seat: Place) {
        let gateway = Rc::clone(&self.gateway);
        let timers = Rc::new(ConnectionTimers::at(seat, client, Rc::clone(&gateway.clock)));
        let guard = ConnectionGuard { timers, gateway };
        guard.gateway.downstreams.add(&guard.timers);
        tokio::task::spawn_local(async move {
            let (gateway, timers) = (Rc::clone(&guard.gateway), Rc::clone(&guard.timers));
            let serving = pin!(connection::serve(stream, gateway, Rc::clone(&timers)));
            let _evicted = timers.seat().hold(serving).await;
        });
    }
}

/// The answer to a client without a place, for which no other connection could be closed.
fn reason(full: Full) -> &'static str {
    match full {
        Full::Client => {
            "you have as many connections as one client may have, all with a request under way; wait for answers"
        }
        Full::Total | Full::Files => "the gateway has as many requests under way as connections; try again later",
    }
}

/// A connection among the core's, until it ends, also by a panic.
struct ConnectionGuard {
    timers: Rc<ConnectionTimers>,
    gateway: Rc<Gateway>,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.gateway.downstreams.remove(&self.timers);
    }
}
