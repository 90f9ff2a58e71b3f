//! The tables that were in force before, until no request needs them any more.

use std::sync::Arc;

use crate::table::routing_table::RoutingTable;

/// So many are looked through at least, or twice as many as were still held the last time: tunnels hold theirs for hours,
/// and a change must not cost the tunnels.
const FREED_FROM: usize = 16;

/// Whatever holds a table last frees it. That shall not be a core that serves requests: of ten thousand instances that went
/// together, that is work. So the tables stay here until they are held nowhere else.
#[derive(Debug)]
pub(crate) struct RetiredTables {
    tables: Vec<Arc<RoutingTable>>,
    /// They are looked through when they are so many.
    freed_from: usize,
}

// === impl RetiredTables ===

impl Default for RetiredTables {
    fn default() -> Self {
        Self { tables: Vec::new(), freed_from: FREED_FROM }
    }
}

impl RetiredTables {
    pub(crate) fn add(&mut self, table: Arc<RoutingTable>) {
        self.tables.push(table);
        if self.tables.len() >= self.freed_from {
            self.free();
        }
    }

    /// Frees those that are held nowhere else.
    pub(crate) fn free(&mut self) {
        self.tables.retain(|table| Arc::strong_count(table) > 1);
        self.freed_from = (self.tables.len() * 2).max(FREED_FROM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_are_held_for_long_are_not_looked_through_at_each_change() {
        let mut retired = RetiredTables::default();
        let held: Vec<Arc<RoutingTable>> = (0..100).map(|_| Arc::default()).collect();
        held.iter().for_each(|table| retired.add(Arc::clone(table)));
        assert!(retired.freed_from > 100, "{}", retired.freed_from);
        drop(held);
        retired.free();
        assert_eq!((retired.tables.len(), retired.freed_from), (0, FREED_FROM));
    }
}
