//! The contexts of a VM: the root contexts of its plugins, HTTP streams and TCP connections, by id. What a callback may
//! see at the moment hangs on them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::connection::ConnectionCell;
use crate::headers::Headers;
use crate::stream::StreamCell;

/// A context: its root and, unless it is the root itself, what it stands for.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) root: Rc<Root>,
    pub(crate) stands_for: StandsFor,
}

#[derive(Clone)]
pub(crate) enum StandsFor {
    Root,
    Stream(Rc<StreamCell>),
    Connection(Rc<ConnectionCell>),
}

impl Context {
    pub(crate) fn stream(&self) -> Option<&Rc<StreamCell>> {
        match &self.stands_for {
            StandsFor::Stream(stream) => Some(stream),
            _ => None,
        }
    }
}

/// A root context: one plugin's configuration in one VM.
pub(crate) struct Root {
    pub(crate) id: u32,
    pub(crate) plugin: String,
    /// The `root_id` of its configuration.
    pub(crate) named: String,
    pub(crate) configuration: Vec<u8>,
    /// The configuration can be read only while the plugin is being started or configured.
    pub(crate) configuring: Cell<bool>,
    pub(crate) tick: Cell<Option<Tick>>,
    /// The answer to a callout, during its callback.
    pub(crate) answer: RefCell<Option<Answered>>,
    pub(crate) grpc: RefCell<GrpcVisible>,
    /// What `proxy_get_status` tells; the code stays after the callback, as in the real host.
    pub(crate) status: RefCell<(u32, String)>,
    pub(crate) waiting_for_done: Cell<bool>,
}

/// A running tick: period and next time, in microseconds of steady time.
#[derive(Clone, Copy)]
pub(crate) struct Tick {
    pub(crate) period: u64,
    pub(crate) due: u64,
}

/// A callout's answer as the plugin sees it.
#[derive(Clone)]
pub(crate) struct Answered {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
}

#[derive(Default)]
pub(crate) struct GrpcVisible {
    pub(crate) initial: Option<Headers>,
    pub(crate) trailing: Option<Headers>,
    pub(crate) message: Option<Vec<u8>>,
}

impl Root {
    pub(crate) fn new(id: u32, plugin: &str, root_id: &str, configuration: &[u8]) -> Rc<Self> {
        Rc::new(Self {
            id,
            plugin: plugin.to_owned(),
            named: root_id.to_owned(),
            configuration: configuration.to_vec(),
            configuring: Cell::new(false),
            tick: Cell::new(None),
            answer: RefCell::new(None),
            grpc: RefCell::new(GrpcVisible::default()),
            status: RefCell::new((0, String::new())),
            waiting_for_done: Cell::new(false),
        })
    }
}
