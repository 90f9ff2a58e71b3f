//! What one core has to serve requests with, and what one request has: the state under the page with a request's life
//! (`gateway.rs`).

use std::rc::Rc;

use discovery::policy::Policy;
use http1::Limits;

use crate::{
    addresses::AddressPolicy,
    clock::Clock,
    config::GatewayOptions,
    counters::PerCore,
    downstream::deadlines::{ConnectionTimers, CoreConnections},
    instance::vitals,
    io::{buffers::Buffers, linger::Lingering},
    load_balancing::pending_queue::Queues,
    proxy::retry::budget::Budgets,
    table::routing_table::{CoreTable, Service, TableHandle},
    telemetry::metrics::Refusals,
    upstream::{attempt::Attempt, pool::Pool, upstreams::Upstreams},
};

/// What one core has to serve requests with.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) core: usize,
    pub(crate) options: Rc<GatewayOptions>,
    pub(crate) table: CoreTable,
    pub(crate) clock: Rc<Clock>,
    pub(crate) upstreams: Upstreams,
    pub(crate) buffers: Buffers,
    pub(crate) downstreams: CoreConnections,
    pub(crate) lingering: Lingering,
    pub(crate) refusals: Refusals,
    pub(crate) budgets: Budgets,
    pub(crate) queues: Queues,
    pub(crate) http: Limits,
}

/// What one request is forwarded with, from its admission to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestContext<'a> {
    /// The core's.
    pub(crate) gateway: &'a Gateway,
    /// Which service it is for, as the table had it when it came.
    pub(crate) service: &'a Service,
    /// That service's policy.
    pub(crate) policy: &'a Policy,
    /// What its client is waited for.
    pub(crate) timers: &'a ConnectionTimers,
}

// === impl RequestContext ===

impl<'a> RequestContext<'a> {
    pub(crate) fn new(gateway: &'a Gateway, service: &'a Service, timers: &'a ConnectionTimers) -> Self {
        Self { gateway, service, policy: service.policy(), timers }
    }

    /// What this core counts for the service.
    pub(crate) fn counters(&self) -> &'a PerCore {
        self.gateway.counters(self.service)
    }
}

// === impl Gateway ===

impl Gateway {
    /// That of core `core`, with nothing under way.
    pub(crate) fn new(
        core: usize,
        options: GatewayOptions,
        table: TableHandle,
        addresses: AddressPolicy,
        refusals: Refusals,
    ) -> Self {
        let clock = Rc::new(Clock::default());
        clock.tick();
        let buffers = Buffers::default();
        let pool = Pool::new(options.limits.upstream_idle_max, options.timeouts.upstream_keep_alive);
        let http = Limits {
            head_max_bytes: options.limits.header_max_bytes,
            fields_max: options.limits.header_fields_max,
            target_max_bytes: options.limits.target_max_bytes,
        };
        Self {
            core,
            http,
            options: Rc::new(options),
            table: CoreTable::new(table),
            clock: Rc::clone(&clock),
            upstreams: Upstreams::new(pool, addresses, buffers.clone(), clock),
            buffers,
            queues: Queues::default(),
            downstreams: CoreConnections::default(),
            lingering: Lingering::default(),
            refusals,
            budgets: Budgets::default(),
        }
    }

    /// What a tick of the clock does on this core.
    pub(crate) fn tick(&self) {
        self.clock.tick();
        self.downstreams.tick(self.clock.now(), vitals::findings());
        self.upstreams.pool.tick(self.clock.now());
        self.queues.tick();
    }

    pub(crate) fn counters<'a>(&self, service: &'a Service) -> &'a PerCore {
        &service.balancer.cores[self.core]
    }

    /// The instance has sent everything: its place is the next request's.
    pub(crate) fn leave(&self, attempt: &mut Attempt) {
        if attempt.leave() {
            self.queues.one_left(&attempt.candidate.key.service);
        }
    }
}
