//! Loading plugins, giving them a new configuration, reloading dead VMs and letting old configurations go, in Envoy's
//! order: a canary on the main thread, then the main thread, then each worker.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::clock::micros;
use crate::context::{Root, StandsFor};
use crate::drive::Step;
use crate::host::{Host, Inner};
use crate::plugin::{FailPolicy, LoadError, Plugin, PluginId};
use crate::thread::Thread;
use crate::vm::{Called, Vm, VmKey};

/// A loaded plugin: its configurations, the one in force last.
pub(crate) struct PluginState {
    definition: Plugin,
    generations: Vec<BTreeMap<Thread, Rooted>>,
}

/// A root context and its VM.
#[derive(Clone)]
pub(crate) struct Rooted {
    pub(crate) vm: Rc<Vm>,
    pub(crate) root: Rc<Root>,
    /// When it was loaded, or last tried to, in microseconds of steady time.
    loaded_at: u64,
}

impl Host {
    /// Loads a plugin on the main thread and on every worker.
    ///
    /// # Errors
    /// `proxy_on_vm_start` or `proxy_on_configure` said no or trapped in the canary VM; nothing is loaded then.
    pub fn load(&self, plugin: Plugin) -> Result<PluginId, LoadError> {
        let first = self.inner.start_everywhere(&plugin)?;
        let mut plugins = self.inner.plugins.borrow_mut();
        plugins.push(PluginState { definition: plugin, generations: vec![first] });
        let id = PluginId(plugins.len() - 1);
        drop(plugins);
        self.inner.run_posted();
        Ok(id)
    }

    /// Gives a plugin a new configuration: new root contexts in the same VMs, used by new requests. The old ones keep
    /// ticking and serve their requests until [`Host::drain`].
    ///
    /// # Errors
    /// As [`Host::load`]; the old configuration then goes on serving.
    pub fn reconfigure(&self, plugin: &PluginId, configuration: impl AsRef<[u8]>) -> Result<(), LoadError> {
        let found = self.inner.definition(plugin);
        let definition = found.ok_or_else(|| self.inner.load_error(0, "no such plugin".to_owned()))?;
        self.update(plugin, definition.configuration(configuration))
    }

    /// Replaces a plugin as a whole, its code too: another module or `vm_id` means new VMs beside the old ones.
    ///
    /// # Errors
    /// As [`Host::reconfigure`].
    pub fn update(&self, plugin: &PluginId, definition: Plugin) -> Result<(), LoadError> {
        let started = self.inner.start_everywhere(&definition)?;
        if let Some(state) = self.inner.plugins.borrow_mut().get_mut(plugin.0) {
            state.definition = definition;
            state.generations.push(started);
        }
        self.inner.run_posted();
        Ok(())
    }

    /// Lets old configurations of a plugin go: at once, or with their last request.
    pub fn drain(&self, plugin: &PluginId) {
        self.inner.retire(plugin, 1);
    }

    /// Takes a plugin away: new requests to it fail, requests in it go on. With the last VM of a `vm_id` its shared data
    /// goes too.
    pub fn unload(&self, plugin: &PluginId) {
        self.inner.retire(plugin, 0);
    }
}

impl Inner {
    pub(crate) fn definition(&self, plugin: &PluginId) -> Option<Plugin> {
        let plugins = self.plugins.borrow();
        plugins.get(plugin.0).map(|state| state.definition.clone())
    }

    fn load_error(&self, logs_from: usize, reason: String) -> LoadError {
        let logs = self.logs.borrow();
        LoadError { reason, logs: logs.get(logs_from..).unwrap_or_default().to_vec() }
    }

    fn start_everywhere(self: &Rc<Self>, plugin: &Plugin) -> Result<BTreeMap<Thread, Rooted>, LoadError> {
        let logs_from = self.logs.borrow().len();
        if !self.busy.borrow().is_empty() {
            let reason = "a plugin cannot be loaded while a callback runs".to_owned();
            return Err(self.load_error(logs_from, reason));
        }
        let canary = self.new_vm(Thread::Canary, &plugin.key);
        self.start_root(&canary, plugin).map_err(|reason| self.load_error(logs_from, reason))?;
        let workers = (0..self.settings.workers).map(Thread::Worker);
        let mut roots = BTreeMap::new();
        for thread in std::iter::once(Thread::Main).chain(workers) {
            let vm = self.vm_for(thread, &plugin.key);
            match self.start_root(&vm, plugin) {
                Ok(root) => {
                    let loaded_at = self.clock.steady_micros();
                    roots.insert(thread, Rooted { vm, root, loaded_at });
                }
                // The canary said yes, so the configuration is in force; on this thread the VM is dead.
                Err(reason) => vm.state.fail(reason),
            }
        }
        Ok(roots)
    }

    fn new_vm(self: &Rc<Self>, thread: Thread, key: &VmKey) -> Rc<Vm> {
        let number = self.next_vm.get();
        self.next_vm.set(number + 1);
        Vm::new(self, number, thread, key.clone())
    }

    /// The live VM of that key on that thread, made if need be. A dead one of the same key is replaced.
    fn vm_for(self: &Rc<Self>, thread: Thread, key: &VmKey) -> Rc<Vm> {
        let same = |vm: &&Rc<Vm>| vm.state.thread == thread && vm.state.key.is(key) && !vm.state.failed();
        if let Some(found) = self.vms.borrow().iter().find(same) {
            return Rc::clone(found);
        }
        let vm = self.new_vm(thread, key);
        let mut vms = self.vms.borrow_mut();
        vms.retain(|old| !(old.state.failed() && old.state.thread == thread && old.state.key.is(key)));
        vms.push(Rc::clone(&vm));
        vm
    }

    fn start_root(self: &Rc<Self>, vm: &Rc<Vm>, plugin: &Plugin) -> Result<Rc<Root>, String> {
        let name = format!("plugin `{}`", plugin.name);
        let id = vm.state.new_context_id();
        let root = Root::new(id, &plugin.name, &plugin.root_id, &plugin.configuration);
        vm.state.add_context(&root, StandsFor::Root);
        root.configuring.set(true);
        self.start_call(vm, id, "proxy_on_context_create", &[id, 0]);
        root.configuring.set(false);
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let vm_size = size(&plugin.key.configuration);
        let started = self.start_call(vm, id, "proxy_on_vm_start", &[id, vm_size]);
        if started == Called::Returned(0) {
            return Err(format!("{name}: proxy_on_vm_start returned false"));
        }
        root.configuring.set(true);
        let configured = self.start_call(vm, id, "proxy_on_configure", &[id, size(&plugin.configuration)]);
        root.configuring.set(false);
        if configured == Called::Returned(0) {
            return Err(format!("{name}: proxy_on_configure returned false"));
        }
        if let Some(failure) = vm.state.failure.borrow().as_ref() {
            return Err(format!("{name}: {failure}"));
        }
        Ok(root)
    }

    /// A callback outside of `run`; what it posts waits until the whole load is over.
    fn start_call(self: &Rc<Self>, vm: &Rc<Vm>, context: u32, export: &str, arguments: &[u32]) -> Called {
        let thread = vm.state.thread;
        let drained = self.draining.replace(true);
        self.busy.borrow_mut().insert(thread);
        let called = vm.call(context, export, arguments);
        self.busy.borrow_mut().remove(&thread);
        vm.state.stop_next.set(false);
        self.run(thread, Some(Rc::clone(vm)), Step::Settle);
        self.draining.set(drained);
        called
    }

    /// The root that a new request gets; a dead VM is reloaded first where its policy and backoff allow.
    pub(crate) fn root_for_stream(self: &Rc<Self>, thread: Thread, plugin: &PluginId) -> Option<Rooted> {
        let (definition, rooted) = {
            let plugins = self.plugins.borrow();
            let state = plugins.get(plugin.0)?;
            let rooted = state.generations.last()?.get(&thread)?.clone();
            (state.definition.clone(), rooted)
        };
        if !rooted.vm.state.failed() {
            return Some(rooted);
        }
        let FailPolicy::Reload(backoff) = definition.fail_policy else {
            return None;
        };
        let now = self.clock.steady_micros();
        let again = rooted.loaded_at.saturating_add(micros(backoff));
        if now < again || self.busy.borrow().contains(&thread) {
            return None;
        }
        let reloaded = self.reload(thread, &definition, now);
        let mut plugins = self.plugins.borrow_mut();
        let generation = plugins.get_mut(plugin.0)?.generations.last_mut()?;
        if reloaded.is_none() {
            generation.get_mut(&thread)?.loaded_at = now;
        }
        if let Some(rooted) = &reloaded {
            generation.insert(thread, rooted.clone());
        }
        reloaded
    }

    fn reload(self: &Rc<Self>, thread: Thread, plugin: &Plugin, now: u64) -> Option<Rooted> {
        let vm = self.vm_for(thread, &plugin.key);
        match self.start_root(&vm, plugin) {
            Ok(root) => Some(Rooted { vm, root, loaded_at: now }),
            Err(reason) => {
                vm.state.fail(reason);
                None
            }
        }
    }

    /// Lets all but the newest `keep` configurations go.
    fn retire(self: &Rc<Self>, plugin: &PluginId, keep: usize) {
        let old: Vec<Rooted> = {
            let mut plugins = self.plugins.borrow_mut();
            let Some(state) = plugins.get_mut(plugin.0) else {
                return;
            };
            let gone = state.generations.len().saturating_sub(keep);
            let old = state.generations.drain(..gone);
            old.flat_map(BTreeMap::into_values).collect()
        };
        for Rooted { vm, root, .. } in old {
            let key = (vm.state.number, root.id);
            self.retiring.borrow_mut().insert(key);
            self.root_may_go(&vm, &root);
        }
        self.run_posted();
    }

    /// Ends a retiring root that has no streams left.
    pub(crate) fn root_may_go(&self, vm: &Rc<Vm>, root: &Rc<Root>) {
        let key = (vm.state.number, root.id);
        let in_use =
            vm.state.contexts.borrow().iter().any(|(id, context)| *id != root.id && Rc::ptr_eq(&context.root, root));
        if !in_use && self.retiring.borrow_mut().remove(&key) {
            let step = Step::RootDone(root.id);
            self.post(vm.state.thread, Some(Rc::clone(vm)), step);
        }
    }

    /// Frees VMs without contexts, and the shared data of a `vm_id` that no VM has any more.
    pub(crate) fn drop_empty_vms(&self) {
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.vms.borrow_mut().drain(..).partition(|vm| !vm.state.contexts.borrow().is_empty());
        for vm in gone {
            let vm_id = &vm.state.key.vm_id;
            if !kept.iter().any(|other| other.state.key.vm_id == *vm_id) {
                self.shared.borrow_mut().drop_vm_id(vm_id);
            }
        }
        *self.vms.borrow_mut() = kept;
    }
}
