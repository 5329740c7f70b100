//! One VM: an instance of a plugin's code on one thread, with its contexts, and the one way into it, `Vm::call`. When
//! callbacks run, and in which order, is `drive`'s business.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};

use wasmtime::{Instance, Memory, Store, StoreLimits, StoreLimitsBuilder, TypedFunc, Val};

use crate::callout::Pending;
use crate::context::{Context, Root, StandsFor};
use crate::drive::Step;
use crate::host::Inner;
use crate::logs::LogLevel;
use crate::metrics::MetricKind;
use crate::module::Module;
use crate::thread::Thread;

/// Most memory a plugin may have, in bytes: the real host's limit.
const MEMORY_LIMIT: usize = 1 << 30;

/// What a `Store` carries: a way to the VM's state, and the exports that host functions need.
pub(crate) struct Data {
    pub(crate) state: Rc<VmState>,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    limits: StoreLimits,
}

/// A VM. `guest` is borrowed while the plugin runs; `state` never is.
pub(crate) struct Vm {
    pub(crate) state: Rc<VmState>,
    guest: RefCell<Guest>,
}

struct Guest {
    store: Store<Data>,
    instance: Option<Instance>,
}

/// What makes two plugins share a VM.
#[derive(Clone, Debug)]
pub(crate) struct VmKey {
    pub(crate) vm_id: String,
    pub(crate) configuration: Vec<u8>,
    pub(crate) module: Module,
    pub(crate) environment: Vec<(String, String)>,
}

impl VmKey {
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.vm_id == other.vm_id
            && self.configuration == other.configuration
            && self.environment == other.environment
            && self.module.is_same_code(&other.module)
    }
}

/// Everything of a VM that host functions and the driver both use.
pub(crate) struct VmState {
    pub(crate) host: Weak<Inner>,
    pub(crate) number: usize,
    pub(crate) thread: Thread,
    pub(crate) key: VmKey,
    pub(crate) contexts: RefCell<BTreeMap<u32, Context>>,
    next_context: Cell<u32>,
    /// The context of the running callback, and the one that `proxy_set_effective_context` put in its place.
    pub(crate) current: Cell<u32>,
    pub(crate) effective: Cell<u32>,
    /// While set, only logging and WASI may be called: during start-up code and allocation.
    pub(crate) restricted: Cell<bool>,
    /// A local reply turns the running callback's `Continue` into a stop.
    pub(crate) stop_next: Cell<bool>,
    /// Why the VM died, once it has.
    pub(crate) failure: RefCell<Option<String>>,
    /// Resumes, replies and resets asked for in the running callback.
    pub(crate) actions: RefCell<VecDeque<Step>>,
    pub(crate) metric_ids: RefCell<BTreeMap<u32, (MetricKind, String)>>,
    pub(crate) callouts: RefCell<BTreeMap<u32, Pending>>,
    pub(crate) next_token: Cell<u32>,
}

/// What came of calling an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// The plugin does not export it.
    Missing,
    /// It returned this (0 for nothing).
    Returned(u32),
    /// The VM is dead, from now or from before.
    Failed,
}

impl VmState {
    pub(crate) fn failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(crate) fn context(&self, id: u32) -> Option<Context> {
        self.contexts.borrow().get(&id).cloned()
    }

    /// The context that host functions act on.
    pub(crate) fn acting(&self) -> Option<Context> {
        let effective = self.effective.get();
        let chosen = if effective == 0 { None } else { self.context(effective) };
        chosen.or_else(|| self.context(self.current.get()))
    }

    pub(crate) fn add_context(&self, root: &Rc<Root>, stands_for: StandsFor) -> u32 {
        let id = match stands_for {
            StandsFor::Root => root.id,
            _ => self.new_context_id(),
        };
        let context = Context { root: Rc::clone(root), stands_for };
        self.contexts.borrow_mut().insert(id, context);
        id
    }

    pub(crate) fn new_context_id(&self) -> u32 {
        let id = self.next_context.get();
        self.next_context.set(id + 1);
        id
    }

    /// Declares the VM dead and reports it in the log.
    pub(crate) fn fail(&self, message: String) {
        let Some(host) = self.host.upgrade() else {
            return;
        };
        host.log(self.thread, "", LogLevel::Critical, message.clone());
        self.failure.borrow_mut().get_or_insert(message);
    }
}

impl Vm {
    /// Makes an instance and runs its start-up code. A trap there leaves a VM that has failed.
    pub(crate) fn new(host: &Rc<Inner>, number: usize, thread: Thread, key: VmKey) -> Rc<Self> {
        let module = key.module.clone();
        let state = Rc::new(VmState {
            host: Rc::downgrade(host),
            number,
            thread,
            key,
            contexts: RefCell::default(),
            next_context: Cell::new(1),
            current: Cell::new(0),
            effective: Cell::new(0),
            restricted: Cell::new(true),
            stop_next: Cell::new(false),
            failure: RefCell::default(),
            actions: RefCell::default(),
            metric_ids: RefCell::default(),
            callouts: RefCell::default(),
            next_token: Cell::new(1),
        });
        let data = Data {
            state: Rc::clone(&state),
            memory: None,
            allocate: None,
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_LIMIT).build(),
        };
        let mut store = Store::new(module.engine(), data);
        store.limiter(|data| &mut data.limits);
        let started = store.set_fuel(host.settings.fuel).and_then(|()| module.link()?.instantiate(&mut store));
        let instance = match started {
            Ok(instance) => Some(instance),
            Err(error) => {
                state.fail(format!("cannot start the VM: {error:?}"));
                None
            }
        };
        if let Some(instance) = &instance {
            store.data_mut().memory = instance.get_memory(&mut store, "memory");
            let named = ["proxy_on_memory_allocate", "malloc"];
            let found = named.iter().find_map(|name| instance.get_typed_func(&mut store, name).ok());
            store.data_mut().allocate = found;
        }
        let vm = Rc::new(Self { state, guest: RefCell::new(Guest { store, instance }) });
        vm.run_start_code();
        vm.state.restricted.set(false);
        vm
    }

    /// Size of the linear memory; 0 while the VM is inside a callback.
    pub(crate) fn memory_bytes(&self) -> usize {
        let guest = self.guest.try_borrow();
        guest.map_or(0, |guest| guest.store.data().memory.map_or(0, |memory| memory.data_size(&guest.store)))
    }

    fn run_start_code(&self) {
        if self.call(0, "_initialize", &[]) == Called::Missing {
            self.call(0, "_start", &[]);
        } else {
            self.call(0, "main", &[0, 0]);
        }
    }

    /// Calls an export on behalf of a context. A trap ends the VM and is reported in the log with its wasm backtrace.
    pub(crate) fn call(&self, context: u32, export: &str, arguments: &[u32]) -> Called {
        if self.state.failed() {
            return Called::Failed;
        }
        let mut guest = self.guest.borrow_mut();
        let Guest { store, instance } = &mut *guest;
        let found = instance.as_ref().and_then(|instance| instance.get_func(&mut *store, export));
        let (Some(function), Some(host)) = (found, self.state.host.upgrade()) else {
            return Called::Missing;
        };
        self.state.current.set(context);
        self.state.effective.set(0);
        let parameters: Vec<Val> = arguments.iter().map(|word| Val::I32(word.cast_signed())).collect();
        let kinds: Vec<Val> = function.ty(&*store).results().map(|_| Val::I32(0)).collect();
        let mut results = kinds;
        let outcome =
            store.set_fuel(host.settings.fuel).and_then(|()| function.call(&mut *store, &parameters, &mut results));
        let left = store.get_fuel().unwrap_or(0);
        host.fuel_used.set(host.fuel_used.get().saturating_add(host.settings.fuel.saturating_sub(left)));
        self.state.current.set(0);
        self.state.effective.set(0);
        match outcome {
            Ok(()) => {
                let returned = results.first().and_then(Val::i32).unwrap_or(0);
                Called::Returned(returned.cast_unsigned())
            }
            Err(error) => {
                self.state.fail(format!("{export} failed: {error:?}"));
                Called::Failed
            }
        }
    }
}
