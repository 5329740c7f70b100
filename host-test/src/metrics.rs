//! Metrics by name, shared by all VMs and kept when a VM is reloaded. Ids belong to the VM that defined them and live
//! there. Histogram buckets are not modelled: every recorded value is kept.

use std::collections::BTreeMap;

use crate::abi::Status;

/// The kind of a metric, in the two lowest bits of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Histogram,
            _ => return None,
        })
    }
}

/// All metrics of a host, or a copy of them for a test to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    values: BTreeMap<(MetricKind, String), u64>,
    histograms: BTreeMap<String, Vec<u64>>,
}

impl Metrics {
    /// A counter's value; `None` until a plugin defines it.
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.value(MetricKind::Counter, name)
    }

    /// A gauge's value; `None` until a plugin defines it. Below zero it wraps to just under 2^64.
    pub fn gauge(&self, name: &str) -> Option<u64> {
        self.value(MetricKind::Gauge, name)
    }

    /// Everything recorded in a histogram; `None` until a plugin defines it.
    pub fn histogram(&self, name: &str) -> Option<&[u64]> {
        self.histograms.get(name).map(Vec::as_slice)
    }

    /// Names of all metrics, counters first, then gauges, then histograms, each in order.
    pub fn names(&self) -> Vec<&str> {
        let values = self.values.keys().map(|(_, name)| name.as_str());
        values.chain(self.histograms.keys().map(String::as_str)).collect()
    }

    fn value(&self, kind: MetricKind, name: &str) -> Option<u64> {
        self.values.get(&(kind, name.to_owned())).copied()
    }

    pub(crate) fn define(&mut self, kind: MetricKind, name: &str) {
        match kind {
            MetricKind::Histogram => {
                self.histograms.entry(name.to_owned()).or_default();
            }
            _ => {
                self.values.entry((kind, name.to_owned())).or_insert(0);
            }
        }
    }

    pub(crate) fn increment(&mut self, kind: MetricKind, name: &str, offset: i64) -> Result<(), Status> {
        match kind {
            MetricKind::Counter if offset <= 0 => return Err(Status::BadArgument),
            MetricKind::Histogram => return Err(Status::BadArgument),
            _ => {}
        }
        let value = self.values.get_mut(&(kind, name.to_owned())).ok_or(Status::NotFound)?;
        *value = value.wrapping_add_signed(offset);
        Ok(())
    }

    pub(crate) fn record(&mut self, kind: MetricKind, name: &str, amount: u64) -> Result<(), Status> {
        if kind == MetricKind::Histogram {
            let samples = self.histograms.get_mut(name).ok_or(Status::NotFound)?;
            samples.push(amount);
            return Ok(());
        }
        let value = self.values.get_mut(&(kind, name.to_owned())).ok_or(Status::NotFound)?;
        *value = if kind == MetricKind::Counter { value.wrapping_add(amount) } else { amount };
        Ok(())
    }

    pub(crate) fn read(&self, kind: MetricKind, name: &str) -> Result<u64, Status> {
        match kind {
            MetricKind::Histogram => Err(Status::BadArgument),
            _ => self.value(kind, name).ok_or(Status::NotFound),
        }
    }
}
