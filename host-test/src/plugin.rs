//! What a test says about a plugin: its code, its names and its configuration. Nothing runs here.

use std::fmt;
use std::time::Duration;

use crate::logs::LogLine;
use crate::module::Module;
use crate::vm::VmKey;

/// A plugin to be loaded.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub(crate) name: String,
    pub(crate) root_id: String,
    pub(crate) configuration: Vec<u8>,
    pub(crate) fail_policy: FailPolicy,
    pub(crate) headers_may_stop_alone: bool,
    pub(crate) key: VmKey,
}

/// What happens to requests once the VM has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailPolicy {
    /// 503 for ever.
    Closed,
    /// They pass as if the plugin were not there, for ever.
    Open,
    /// 503 until this long after the dead VM was loaded (not after it died: that is how Envoy counts); then the next
    /// request makes a new VM. Envoy's default is one second, which it stretches at random; here it is exact.
    Reload(Duration),
}

/// A loaded plugin of the host that loaded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginId(pub(crate) usize);

impl Plugin {
    /// A plugin with empty names and configuration that fails closed.
    pub fn new(module: &Module) -> Self {
        Self {
            name: String::new(),
            root_id: String::new(),
            configuration: Vec::new(),
            fail_policy: FailPolicy::Closed,
            headers_may_stop_alone: false,
            key: VmKey {
                vm_id: String::new(),
                configuration: Vec::new(),
                module: module.clone(),
                environment: Vec::new(),
            },
        }
    }

    /// Its name in logs and in the property `plugin_name`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Its root id.
    #[must_use]
    pub fn root_id(mut self, root_id: &str) -> Self {
        root_id.clone_into(&mut self.root_id);
        self
    }

    /// Its `vm_id`. Plugins with the same `vm_id`, code and VM configuration share one VM a thread; those with the same
    /// `vm_id` share their shared data.
    #[must_use]
    pub fn vm_id(mut self, vm_id: &str) -> Self {
        vm_id.clone_into(&mut self.key.vm_id);
        self
    }

    /// What `proxy_on_configure` can read.
    #[must_use]
    pub fn configuration(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.configuration = bytes.as_ref().to_vec();
        self
    }

    /// What `proxy_on_vm_start` can read.
    #[must_use]
    pub fn vm_configuration(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.key.configuration = bytes.as_ref().to_vec();
        self
    }

    /// An environment variable of the VM.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        let variable = (name.to_owned(), value.to_owned());
        self.key.environment.push(variable);
        self
    }

    /// Envoy's option of that name, off by default. Off, headers that stop (any result but 0) stop everything behind
    /// them. On, result 1 stops the headers alone and the body is shown all the same.
    #[must_use]
    pub fn allow_on_headers_stop_iteration(mut self, allow: bool) -> Self {
        self.headers_may_stop_alone = allow;
        self
    }

    /// What happens when the VM dies.
    #[must_use]
    pub fn fail_policy(mut self, policy: FailPolicy) -> Self {
        self.fail_policy = policy;
        self
    }
}

/// Why a plugin, or its new configuration, was refused, with everything that was logged on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// What failed.
    pub reason: String,
    /// Log lines of the attempt.
    pub logs: Vec<LogLine>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)?;
        for line in &self.logs {
            write!(formatter, "\n  {:?}: {}", line.level, line.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}
