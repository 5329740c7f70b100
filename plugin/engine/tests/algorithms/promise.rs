//! What each algorithm promises, judged by brute force over a log. Nothing of the algorithms' own arithmetic is used.

use tidegate_engine::algorithm::Quota;

use crate::client::{Admission, Client};

/// What the log breaks of its algorithm's promise, or nothing.
pub(crate) fn broken(client: &Client) -> Option<String> {
    let mut log = client.log.clone();
    log.sort_by_key(|admission| admission.released);
    let quota = &client.quota;
    match client.algorithm.name() {
        "token_bucket" => over_burst(&log, quota),
        "leaky_bucket" => too_close(&log, quota),
        "fixed_window" => over_in_a_window(&log, quota),
        "sliding_window" => over_in_any_window(&log, quota),
        other => Some(format!("no promise is known of {other}")),
    }
}

/// In any interval from a to b, both included, at most burst + rate x (b - a) / window.
fn over_burst(log: &[Admission], quota: &Quota) -> Option<String> {
    intervals(log).find_map(|(length, admitted)| {
        let window = u128::from(quota.window.0);
        let allowed = u128::from(quota.burst.get()) * window + u128::from(quota.rate.get()) * u128::from(length);
        (u128::from(admitted) * window > allowed).then(|| format!("{admitted} units within {length} us"))
    })
}

/// From one to a later one, more than (cost of the first and of all between) x T - 1 µs.
fn too_close(log: &[Admission], quota: &Quota) -> Option<String> {
    (0..log.len()).find_map(|first| {
        let mut drained = 0;
        log[first..].windows(2).find_map(|pair| {
            drained += u128::from(pair[0].cost) * u128::from(quota.window.0);
            let passed = pair[1].released - log[first].released;
            (drained >= u128::from(quota.rate.get()) * (u128::from(passed) + 1))
                .then(|| format!("only {passed} us after the {first}th of {log:?}"))
        })
    })
}

/// In each window of the cell's clock at most `rate`.
fn over_in_a_window(log: &[Admission], quota: &Quota) -> Option<String> {
    log.iter().find_map(|admission| {
        let label = admission.label;
        let admitted: u64 = log.iter().filter(|other| other.label == label).map(|other| other.cost).sum();
        (admitted > quota.rate.get()).then(|| format!("{admitted} units in window {label}"))
    })
}

/// In any half-open interval as long as the window at most `rate`.
fn over_in_any_window(log: &[Admission], quota: &Quota) -> Option<String> {
    intervals(log).find_map(|(length, admitted)| {
        let is_over = length < quota.window.0 && admitted > quota.rate.get();
        is_over.then(|| format!("{admitted} units within {length} us"))
    })
}

/// Every interval from one admission to another: its length, and what was admitted in it, both ends included.
pub(crate) fn intervals(log: &[Admission]) -> impl Iterator<Item = (u64, u64)> {
    log.iter().enumerate().flat_map(move |(first, from)| {
        let mut admitted = 0;
        log[first..].iter().map(move |to| {
            admitted += to.cost;
            (to.released - from.released, admitted)
        })
    })
}
