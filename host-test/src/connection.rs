//! TCP connections for network filters: opening, bytes in both directions, closing. Only what a plugin can see of them is
//! modelled; there is no listener and no upstream.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::context::Root;
use crate::drive::Step;
use crate::host::Host;
use crate::thread::Thread;
use crate::vm::Vm;

/// A TCP connection at a worker.
#[derive(Clone)]
pub struct Connection {
    pub(crate) cell: Rc<ConnectionCell>,
    pub(crate) host: Host,
}

pub(crate) struct ConnectionCell {
    pub(crate) thread: Thread,
    pub(crate) vm: Rc<Vm>,
    pub(crate) context: Cell<u32>,
    pub(crate) peer: String,
    pub(crate) downstream: RefCell<Vec<u8>>,
    pub(crate) upstream: RefCell<Vec<u8>>,
    pub(crate) passed_on: RefCell<Vec<u8>>,
    pub(crate) passed_back: RefCell<Vec<u8>>,
    pub(crate) held: Cell<bool>,
    pub(crate) closed: Cell<bool>,
}

pub(crate) enum ConnectionEvent {
    Opened(Rc<Root>),
    Downstream { end: bool },
    Upstream { end: bool },
    Closed,
}

impl Connection {
    /// The client sends bytes; what the plugin holds is shown to it again with them.
    pub fn send(&self, bytes: impl AsRef<[u8]>, end: bool) {
        self.cell.downstream.borrow_mut().extend_from_slice(bytes.as_ref());
        self.run(ConnectionEvent::Downstream { end });
    }

    /// The upstream sends bytes.
    pub fn send_from_upstream(&self, bytes: impl AsRef<[u8]>, end: bool) {
        self.cell.upstream.borrow_mut().extend_from_slice(bytes.as_ref());
        self.run(ConnectionEvent::Upstream { end });
    }

    /// The client closes.
    pub fn close(&self) {
        self.run(ConnectionEvent::Closed);
    }

    /// Bytes that the plugin let through to the upstream.
    pub fn forwarded(&self) -> Vec<u8> {
        self.cell.passed_on.borrow().clone()
    }

    /// Bytes that the plugin let through to the client.
    pub fn returned(&self) -> Vec<u8> {
        self.cell.passed_back.borrow().clone()
    }

    /// Whether the plugin's last answer was to stop.
    pub fn is_held(&self) -> bool {
        self.cell.held.get()
    }

    /// Whether either side has closed it.
    pub fn is_closed(&self) -> bool {
        self.cell.closed.get()
    }

    pub(crate) fn run(&self, event: ConnectionEvent) {
        let step = Step::Connection(Rc::clone(&self.cell), event);
        let cell = &self.cell;
        self.host.inner.run(cell.thread, Some(Rc::clone(&cell.vm)), step);
    }
}

impl ConnectionCell {
    /// Moves on what the plugin let through.
    pub(crate) fn after_callback(&self, event: &ConnectionEvent, stopped: bool) {
        self.held.set(stopped);
        if stopped {
            return;
        }
        match event {
            ConnectionEvent::Downstream { .. } => self.release_downstream(),
            ConnectionEvent::Upstream { .. } => self.release_upstream(),
            _ => {}
        }
    }

    pub(crate) fn release_downstream(&self) {
        let mut bytes = self.downstream.borrow_mut();
        self.passed_on.borrow_mut().append(&mut bytes);
    }

    pub(crate) fn release_upstream(&self) {
        let mut bytes = self.upstream.borrow_mut();
        self.passed_back.borrow_mut().append(&mut bytes);
    }
}
