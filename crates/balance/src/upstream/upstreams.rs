//! What one core has to reach instances with.

use std::{future::Future, pin::Pin, rc::Rc, sync::Arc, task::Context, time::Duration};

#[cfg(test)]
use crate::tests::frames::upstream::Network;
use crate::{
    addresses::AddressPolicy,
    clock::Clock,
    instance::candidate::Candidate,
    io::buffers::Buffers,
    upstream::{
        connect_error::ConnectError, connection::Connection, dial, exchange::UpstreamExchange, pool::Pool,
        stream::UpstreamStream,
    },
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Upstreams {
    /// Connections that wait for a request.
    pub(crate) pool: Pool,
    /// Where nothing is sent.
    pub(crate) addresses: AddressPolicy,
    /// Those of the core, shared with its clients' connections.
    pub(crate) buffers: Buffers,
    /// The core's.
    pub(crate) clock: Rc<Clock>,
    /// Where instances are that speak the tests' framing.
    #[cfg(test)]
    pub(crate) network: Option<Network>,
}

/// An exchange that waits for its connection.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<UpstreamExchange, ConnectError>>>>;

// === impl Upstreams ===

impl Upstreams {
    pub(crate) fn new(pool: Pool, addresses: AddressPolicy, buffers: Buffers, clock: Rc<Clock>) -> Self {
        Self {
            pool,
            addresses,
            buffers,
            clock,
            #[cfg(test)]
            network: None,
        }
    }

    /// An exchange on a connection that is there already; asking the kernel once more whether it stands when
    /// `must_be_sure`.
    pub(crate) fn reuse(
        &self,
        candidate: &Candidate,
        must_be_sure: bool,
        cx: &mut Context<'_>,
    ) -> Option<UpstreamExchange> {
        #[cfg(test)]
        if let Some(network) = &self.network {
            return network.reuse(candidate);
        }
        self.pool.take(candidate.serial, must_be_sure, self.clock.now(), cx).map(UpstreamExchange::on)
    }

    /// An exchange on a new connection, within `limit`: see [`dial::connect`].
    pub(crate) fn open(&self, candidate: &Arc<Candidate>, limit: Duration) -> Opening {
        #[cfg(test)]
        if let Some(network) = &self.network {
            return network.open(candidate, limit);
        }
        let (candidate, addresses, buffers) = (Arc::clone(candidate), self.addresses.clone(), self.buffers.clone());
        Box::pin(async move {
            let stream = dial::connect(&candidate, &addresses, limit).await?;
            Ok(UpstreamExchange::on(Connection::new(UpstreamStream::Tcp(stream), &buffers)))
        })
    }

    /// Keeps the connection of an exchange that is over, if another one may use it.
    pub(crate) fn keep(&self, candidate: &Candidate, exchange: UpstreamExchange) {
        if let Some(connection) = exchange.into_reusable() {
            self.pool.put(candidate.serial, connection, self.clock.now());
        }
    }
}
