//! Counting host calls, so that a test can state what a request costs. Times are not measured: counts are exact and the
//! same on every machine.

use std::collections::BTreeMap;

/// What a host call costs, by kind: one that returns bytes calls back into the plugin for memory, which is most of its
/// price in a real proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Returns bytes (header values and maps, bodies, properties, shared data, queue items).
    ReturnsBytes,
    /// Writes shared data or a shared queue: takes the process-wide lock.
    WritesShared,
    /// Everything else.
    Other,
}

impl CallKind {
    /// The kind of a host function by its import name; an unknown name is `Other`.
    pub fn of(function: &str) -> Self {
        match function {
            "proxy_get_buffer_bytes"
            | "proxy_get_header_map_pairs"
            | "proxy_get_header_map_value"
            | "proxy_get_property"
            | "proxy_get_configuration"
            | "proxy_get_status"
            | "proxy_get_shared_data"
            | "proxy_dequeue_shared_queue"
            | "proxy_call_foreign_function" => Self::ReturnsBytes,
            "proxy_set_shared_data" | "proxy_enqueue_shared_queue" => Self::WritesShared,
            _ => Self::Other,
        }
    }
}

/// How often each host function was called since the host was built or the counts were reset, over all VMs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    counts: BTreeMap<&'static str, u64>,
}

impl Calls {
    pub(crate) fn note(&mut self, function: &'static str) {
        *self.counts.entry(function).or_insert(0) += 1;
    }

    /// Calls of one function, by import name.
    pub fn count(&self, function: &str) -> u64 {
        self.counts.get(function).copied().unwrap_or(0)
    }

    /// Calls of one kind.
    pub fn of_kind(&self, kind: CallKind) -> u64 {
        let matching = self.counts.iter().filter(|(function, _)| CallKind::of(function) == kind);
        matching.map(|(_, count)| count).sum()
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Every function that was called with its count, ordered by name: one line each in a golden file.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(function, count)| (*function, *count))
    }
}
