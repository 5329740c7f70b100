//! What a running Envoy can be asked in numbers: its statistics, and its memory and processor time.
//! Not here: what the plugin's counters mean (the engine's and the filter's documentation).

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Envoy;

/// What became of the ECDS files of a filter so far. A refused one may count as applied too (seen in 1.40: the old
/// configuration is applied again), but never as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DiscoveryCounts {
    pub(super) accepted: u64,
    pub(super) applied: u64,
    pub(super) refused: u64,
}

impl Envoy {
    /// All counters and gauges whose full names match the regular expression (Envoy's, unanchored; "" for all).
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub fn stats(&self, regex: &str) -> Result<BTreeMap<String, u64>> {
        let query = if regex.is_empty() { String::new() } else { format!("&filter={}", percent_encoded(regex)) };
        let text = self.admin("GET", &format!("/stats?format=json{query}"))?;
        let answer: Value = serde_json::from_str(&text).context("Envoy's statistics")?;
        Ok(numbers(&answer))
    }

    /// One counter or gauge by its full name; 0 where there is none, as before its first use.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub fn stat(&self, name: &str) -> Result<u64> {
        let stats = self.stats(&format!("^{}$", escaped(name)))?;
        Ok(stats.get(name).copied().unwrap_or(0))
    }

    /// What Prometheus would scrape.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub fn prometheus(&self) -> Result<String> {
        self.admin("GET", "/stats/prometheus")
    }

    /// Bytes that Envoy has allocated and not freed, to the byte. The memory of WebAssembly VMs is not among them.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub fn allocated_bytes(&self) -> Result<u64> {
        let answer: Value = serde_json::from_str(&self.admin("GET", "/memory")?).context("Envoy's memory")?;
        let bytes = answer["allocated"].as_str().and_then(|bytes| bytes.parse().ok());
        bytes.with_context(|| format!("`allocated` in {answer}"))
    }

    /// Resident memory in bytes, as the kernel counts it.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        let file = format!("/proc/{}/status", self.pid());
        let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        let kilobytes = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kilobytes: u64 =
            kilobytes.and_then(|n| n.trim().parse().ok()).with_context(|| format!("VmRSS in {file}"))?;
        Ok(kilobytes.saturating_mul(1024))
    }

    /// Processor time of all its threads since its start, in steps of the kernel's clock tick (10 ms).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        let file = format!("/proc/{}/stat", self.pid());
        let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        // The second field, the program's name in brackets, may hold spaces; utime and stime are the 14th and 15th.
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|n| n.parse::<u64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).with_context(|| format!("processor time in {file}"))?;
        let per_second = rustix::param::clock_ticks_per_second();
        let milliseconds = user.saturating_add(system).saturating_mul(1000).checked_div(per_second).unwrap_or(0);
        Ok(Duration::from_millis(milliseconds))
    }

    pub(super) fn discovery_counts(&self, filter: &str) -> Result<DiscoveryCounts> {
        let stats = self.stats(&format!("extension_config_discovery.*{}", escaped(filter)))?;
        let sum = |suffixes: &[&str]| {
            stats.iter().filter(|(name, _)| suffixes.iter().any(|suffix| name.ends_with(suffix))).map(|(_, n)| *n).sum()
        };
        Ok(DiscoveryCounts {
            accepted: sum(&[".update_success"]),
            applied: sum(&[".config_reload"]),
            refused: sum(&[".config_fail", ".update_rejected", ".update_failure"]),
        })
    }
}

fn numbers(answer: &Value) -> BTreeMap<String, u64> {
    let list = answer["stats"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Histograms have another form and are left out.
    list.iter().filter_map(|item| Some((item["name"].as_str()?.to_owned(), item["value"].as_u64()?))).collect()
}

fn escaped(name: &str) -> String {
    name.replace('.', r"\.")
}

fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => encoded.push(byte.into()),
            // Writing to a String cannot fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_expression_survives_the_query() {
        assert_eq!(percent_encoded(r"^wasm\.a+b$"), "%5Ewasm%5C.a%2Bb%24");
    }

    #[test]
    fn histograms_are_left_out() {
        let answer = serde_json::json!({"stats": [{"name": "a", "value": 3}, {"histograms": {}}]});
        assert_eq!(numbers(&answer), BTreeMap::from([("a".to_owned(), 3)]));
    }
}
