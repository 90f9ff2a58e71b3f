//! What one core has to reach instances with.

use std::rc::Rc;

use crate::{addresses::AddressPolicy, clock::Clock, io::buffers::Buffers, upstream::pool::Pool};

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
}
