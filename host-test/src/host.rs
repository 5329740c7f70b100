//! `Host`: the proxy. It owns the clock, the shared store, the VMs of all threads and the record of what plugins did.
//! Loading is in `lifecycle`, time in `timers`, interleaving in `race`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::callout::{Answer, Callout, Cluster};
use crate::calls::Calls;
use crate::clock::Clock;
use crate::connection::{Connection, ConnectionCell, ConnectionEvent};
use crate::drive::{Posted, Step};
use crate::failure::Failures;
use crate::lifecycle::PluginState;
use crate::logs::{LogLevel, LogLine};
use crate::message::{Request, Response};
use crate::metrics::Metrics;
use crate::plugin::PluginId;
use crate::race::Interruptions;
use crate::shared::{SharedData, SharedStore};
use crate::stream::{Stream, StreamCell};
use crate::thread::Thread;
use crate::vm::Vm;

/// A proxy with workers and a main thread. Cloning gives another handle to the same host.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Rc<Inner>,
}

/// What answers the requests that plugins let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Answers inside the call that lets the request through, as Envoy's `direct_response` does. This is the default,
    /// and the hardest on plugins: resuming too many requests in one callback ends the VM.
    Direct(Response),
    /// Answers from the event loop, as a server does, before the test's own call returns.
    Later(Response),
    /// Does not answer: the test calls [`Stream::respond`].
    Manual,
}

pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) fuel: u64,
    pub(crate) nesting_limit: usize,
    pub(crate) buffer_limit: usize,
    pub(crate) log_level: LogLevel,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) shared: RefCell<SharedStore>,
    pub(crate) metrics: RefCell<Metrics>,
    pub(crate) logs: RefCell<Vec<LogLine>>,
    pub(crate) calls: RefCell<Calls>,
    pub(crate) interruptions: Interruptions,
    pub(crate) failures: Failures,
    pub(crate) vms: RefCell<Vec<Rc<Vm>>>,
    pub(crate) next_vm: Cell<usize>,
    pub(crate) plugins: RefCell<Vec<PluginState>>,
    /// Roots that go once their last stream has: VM number and context id.
    pub(crate) retiring: RefCell<BTreeSet<(usize, u32)>>,
    /// Threads that are inside a callback.
    pub(crate) busy: RefCell<BTreeSet<Thread>>,
    pub(crate) posted: RefCell<VecDeque<Posted>>,
    pub(crate) draining: Cell<bool>,
    pub(crate) clusters: RefCell<BTreeMap<String, Cluster>>,
    pub(crate) upstream: RefCell<Upstream>,
    pub(crate) random: Cell<u64>,
    deepest: Cell<usize>,
    /// What all callbacks so far have used.
    pub(crate) fuel_used: Cell<u64>,
}

impl Host {
    /// A host to be: [`HostBuilder`] has the defaults.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    /// The virtual clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// A client sends a request to a worker; the plugin's callbacks run until it holds the request or is done with it.
    /// A worker that is inside a callback (see [`Host::before_call`]) takes it up afterwards.
    ///
    /// A worker that does not exist, or an unloaded plugin, fails as a dead VM does.
    pub fn request(&self, worker: usize, plugin: &PluginId, request: Request) -> Stream {
        let thread = Thread::Worker(worker);
        let definition = self.inner.definition(plugin);
        let rooted = self.inner.root_for_stream(thread, plugin);
        let (vm, root) = rooted.map_or((None, None), |found| (Some(found.vm), Some(found.root)));
        let cell = StreamCell::new(thread, vm.clone(), root, definition.as_ref(), request);
        self.inner.run(thread, vm, Step::Begin(Rc::clone(&cell)));
        Stream { cell, host: self.clone() }
    }

    /// A client opens a TCP connection; `None` where the plugin's VM is dead.
    pub fn connect(&self, worker: usize, plugin: &PluginId, peer: &str) -> Option<Connection> {
        let thread = Thread::Worker(worker);
        let found = self.inner.root_for_stream(thread, plugin)?;
        let connection = Connection {
            cell: Rc::new(ConnectionCell {
                thread,
                vm: found.vm,
                context: Cell::new(0),
                peer: peer.to_owned(),
                downstream: RefCell::default(),
                upstream: RefCell::default(),
                passed_on: RefCell::default(),
                passed_back: RefCell::default(),
                held: Cell::new(false),
                closed: Cell::new(false),
            }),
            host: self.clone(),
        };
        connection.run(ConnectionEvent::Opened(found.root));
        Some(connection)
    }

    /// Replaces what answers requests that plugins let through.
    pub fn set_upstream(&self, upstream: Upstream) {
        *self.inner.upstream.borrow_mut() = upstream;
    }

    /// Adds a cluster or changes its state.
    pub fn set_cluster(&self, name: &str, cluster: Cluster) {
        let mut clusters = self.inner.clusters.borrow_mut();
        clusters.insert(name.to_owned(), cluster);
    }

    /// Calls under way, in the order of threads, VMs and tokens.
    pub fn callouts(&self) -> Vec<Callout> {
        let vms = self.inner.vms.borrow();
        let mut callouts: Vec<Callout> = Vec::new();
        for vm in vms.iter().filter(|vm| !vm.state.failed()) {
            let pending = vm.state.callouts.borrow();
            callouts.extend(pending.values().map(|pending| pending.callout.clone()));
        }
        callouts.sort_by_key(|callout| (callout.thread, callout.vm, callout.token));
        callouts
    }

    /// Answers a call; one that is already over, or whose VM is dead, is left alone.
    pub fn answer(&self, callout: &Callout, answer: Answer) {
        if let Some(vm) = self.inner.vm_numbered(callout.vm) {
            let token = callout.token;
            self.inner.run(callout.thread, Some(vm), Step::Answer { token, answer });
        }
    }

    /// All metrics as they are now.
    pub fn metrics(&self) -> Metrics {
        self.inner.metrics.borrow().clone()
    }

    /// The shared data of a `vm_id` as it is now.
    pub fn shared_data(&self, vm_id: &str) -> SharedData {
        self.inner.shared.borrow().snapshot(vm_id)
    }

    /// Puts a value into shared data, as another plugin with that `vm_id` would.
    pub fn put_shared_data(&self, vm_id: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let value = value.as_ref().to_vec();
        let mut shared = self.inner.shared.borrow_mut();
        // A write without compare-and-swap number cannot be refused.
        let _ = shared.set(vm_id, key.as_ref(), value, 0);
    }

    /// The items of a shared queue, oldest first, without taking them; none where there is no such queue.
    pub fn queue(&self, vm_id: &str, name: impl AsRef<[u8]>) -> Vec<Vec<u8>> {
        self.inner.shared.borrow().queue_items(vm_id, name.as_ref())
    }

    /// All log lines since the host was built.
    pub fn logs(&self) -> Vec<LogLine> {
        self.inner.logs.borrow().clone()
    }

    /// Host calls counted since the host was built or the counts were reset.
    pub fn calls(&self) -> Calls {
        self.inner.calls.borrow().clone()
    }

    /// Starts counting host calls from zero.
    pub fn reset_calls(&self) {
        *self.inner.calls.borrow_mut() = Calls::default();
    }

    /// The deepest nesting of resumes and local replies seen so far: how near plugins came to the host's limit.
    pub fn deepest_nesting(&self) -> usize {
        self.inner.deepest.get()
    }

    /// The fuel, about one a WebAssembly instruction, that all callbacks have used so far. Equal work uses equal fuel on
    /// every machine: what takes the same time can be told without a clock.
    pub fn fuel_used(&self) -> u64 {
        self.inner.fuel_used.get()
    }

    /// Linear memory of the live VMs of a thread in bytes. It never shrinks while a VM lives. A VM that is inside a
    /// callback is left out.
    pub fn memory_bytes(&self, thread: Thread) -> usize {
        let vms = self.inner.vms.borrow();
        vms.iter().filter(|vm| vm.state.thread == thread && !vm.state.failed()).map(|vm| vm.memory_bytes()).sum()
    }

    /// How many VMs there are, dead ones that nothing replaced included.
    pub fn vm_count(&self) -> usize {
        self.inner.vms.borrow().len()
    }
}

impl Inner {
    pub(crate) fn log(&self, thread: Thread, plugin: &str, level: LogLevel, message: String) {
        if level < self.settings.log_level {
            return;
        }
        self.logs.borrow_mut().push(LogLine { level, thread, plugin: plugin.to_owned(), message });
    }

    pub(crate) fn note_nesting(&self, nested: usize) {
        self.deepest.set(self.deepest.get().max(nested));
    }

    pub(crate) fn vm_numbered(&self, number: usize) -> Option<Rc<Vm>> {
        let vms = self.vms.borrow();
        vms.iter().find(|vm| vm.state.number == number).cloned()
    }

    /// Eight bytes that look random and are the same in every run with the same seed (splitmix64).
    pub(crate) fn next_random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        crate::race::mixed(state)
    }
}

/// Settings of a host. Defaults: 1 worker, 2026-01-01T00:00:00Z, seed 0, log level trace, 1 MiB of buffer, 270 nested
/// resumes, 2,000,000,000 units of fuel a callback, an upstream that answers 200 at once, no clusters.
#[derive(Debug)]
pub struct HostBuilder {
    settings: Settings,
    start_micros: u64,
    seed: u64,
    upstream: Upstream,
    clusters: BTreeMap<String, Cluster>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} workers", self.workers)
    }
}

impl Default for HostBuilder {
    fn default() -> Self {
        Self {
            settings: Settings {
                workers: 1,
                fuel: 2_000_000_000,
                nesting_limit: 270,
                buffer_limit: 1 << 20,
                log_level: LogLevel::Trace,
            },
            start_micros: 1_767_225_600_000_000,
            seed: 0,
            upstream: Upstream::Direct(Response::new(200)),
            clusters: BTreeMap::new(),
        }
    }
}

impl HostBuilder {
    /// How many workers; the main thread comes on top.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// Where the wall clock starts, microseconds since the Unix epoch.
    #[must_use]
    pub fn start_micros(mut self, micros: u64) -> Self {
        self.start_micros = micros;
        self
    }

    /// Seed of what `random_get` gives.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What answers requests that plugins let through.
    #[must_use]
    pub fn upstream(mut self, upstream: Upstream) -> Self {
        self.upstream = upstream;
        self
    }

    /// A cluster that plugins may call, healthy, with Envoy's limit of 1024 calls at once.
    #[must_use]
    pub fn cluster(mut self, name: &str) -> Self {
        let healthy = Cluster::Healthy { max_requests: 1024 };
        self.clusters.insert(name.to_owned(), healthy);
        self
    }

    /// Units of fuel (about one a wasm instruction) that one callback may use before it is trapped. A real proxy has no
    /// such limit; here it turns an endless loop into a report.
    #[must_use]
    pub fn fuel_per_callback(mut self, fuel: u64) -> Self {
        self.settings.fuel = fuel;
        self
    }

    /// How deep resumes and local replies of one callback may nest before the VM dies. Envoy 1.40 was seen to die at
    /// 273 resumes and at 306 replies.
    #[must_use]
    pub fn nesting_limit(mut self, depth: usize) -> Self {
        self.settings.nesting_limit = depth;
        self
    }

    /// Bytes of a body that a plugin may hold in a body callback; more is answered 413.
    #[must_use]
    pub fn buffer_limit(mut self, bytes: usize) -> Self {
        self.settings.buffer_limit = bytes;
        self
    }

    /// Log lines below this level are dropped; plugins can ask for it.
    #[must_use]
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.settings.log_level = level;
        self
    }

    /// The host.
    pub fn build(self) -> Host {
        Host {
            inner: Rc::new(Inner {
                settings: self.settings,
                clock: Clock::starting_at(self.start_micros),
                shared: RefCell::new(SharedStore::new()),
                metrics: RefCell::default(),
                logs: RefCell::default(),
                calls: RefCell::default(),
                interruptions: Interruptions::default(),
                failures: Failures::default(),
                vms: RefCell::default(),
                next_vm: Cell::new(0),
                plugins: RefCell::default(),
                retiring: RefCell::default(),
                busy: RefCell::default(),
                posted: RefCell::default(),
                draining: Cell::new(false),
                clusters: RefCell::new(self.clusters),
                upstream: RefCell::new(self.upstream),
                random: Cell::new(self.seed),
                deepest: Cell::new(0),
                fuel_used: Cell::new(0),
            }),
        }
    }
}
