//! Child processes: free ports, waiting until something answers, ending by process id.
//! Not here: what is started (`servers`, `http`).

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Ports below the range from which the system takes those of outgoing connections, so that none is taken in between.
const FIRST_PORT: u16 = 21_000;
const LAST_PORT: u16 = 31_000;

/// A free loopback port that no other test of this process gets.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = LAST_PORT - FIRST_PORT;
    let start = u16::try_from(std::process::id() % u32::from(span)).unwrap();
    for _ in 0..span {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let port = FIRST_PORT + (start + turn) % span;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST_PORT} to {LAST_PORT}");
}

/// Tries every 10 ms until `found` gives something.
///
/// # Panics
/// After `within`.
pub(crate) fn wait_for<T>(what: &str, within: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(result) = found() {
            return result;
        }
        assert!(Instant::now() < end, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A child that ends with the test, however that ends.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {signal:?}: {error}"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
