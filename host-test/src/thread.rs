//! The threads of the proxy that this host plays. They all run on the test's own thread, one callback at a time.

/// Where a VM lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thread {
    /// The VM that checks a configuration on the main thread before anybody uses it, and then goes away.
    Canary,
    /// The main thread: it configures, ticks and drains queues, and never sees a request.
    Main,
    /// A worker, counted from 0.
    Worker(usize),
}
