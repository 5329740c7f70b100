//! Failures on purpose: host functions that refuse, and VMs that die inside a call. When they happen is the test's to
//! say, mostly from [`Host::before_call`] or [`Host::watch_calls`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::abi::Status;
use crate::guest::Fault;
use crate::host::{Host, Inner};
use crate::thread::Thread;

#[derive(Default)]
pub(crate) struct Failures {
    refused: RefCell<BTreeMap<String, Status>>,
    doomed: RefCell<BTreeSet<Thread>>,
}

impl Host {
    /// From now on every call of this host function does nothing and answers `status`; [`Status::Ok`] ends that.
    pub fn refuse_calls(&self, function: &str, status: Status) {
        let mut refused = self.inner.failures.refused.borrow_mut();
        match status {
            Status::Ok => refused.remove(function),
            _ => refused.insert(function.to_owned(), status),
        };
    }

    /// Ends the VM that next makes a host call on this thread, inside that call and before it has any effect. From
    /// [`Host::before_call`] and [`Host::watch_calls`] that is the call which is about to be carried out.
    pub fn kill(&self, thread: Thread) {
        self.inner.failures.doomed.borrow_mut().insert(thread);
    }
}

impl Inner {
    /// What a call fails with, where the test wants it to.
    pub(crate) fn failure_of(&self, thread: Thread, function: &str) -> Option<Fault> {
        if self.failures.doomed.borrow_mut().remove(&thread) {
            return Some(Fault::Trap(wasmtime::Error::msg(format!("killed by the test in {function}"))));
        }
        self.failures.refused.borrow().get(function).copied().map(Fault::Status)
    }
}
