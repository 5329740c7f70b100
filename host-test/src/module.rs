//! `Module`: a plugin's code, compiled once and used by any number of hosts. It checks what Envoy checks at load: the ABI
//! marker and that every import exists.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use wasmtime::{Config, Engine, InstancePre, Linker};

use crate::imports;
use crate::vm::Data;

/// A compiled plugin. Cloning is cheap, and a module may be kept in a `static` for all tests of a binary: compiling takes
/// seconds where this crate is built without optimisation.
#[derive(Clone)]
pub struct Module {
    compiled: Arc<Compiled>,
}

struct Compiled {
    bytes: Vec<u8>,
    engine: Engine,
    module: wasmtime::Module,
}

impl Module {
    /// Reads and compiles a .wasm (or .wat) file.
    ///
    /// # Errors
    /// The file cannot be read, or what [`Module::from_bytes`] says.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ModuleError> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|error| ModuleError(format!("cannot read {}: {error}", path.display())))?;
        Self::from_bytes(&bytes).map_err(|error| ModuleError(format!("{}: {}", path.display(), error.0)))
    }

    /// Compiles wasm in binary or text form.
    ///
    /// # Errors
    /// Not wasm; no marker of ABI 0.2.0 or 0.2.1, or one of another version; an import that the host does not have, or
    /// has with another signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModuleError> {
        let mut config = Config::new();
        config.consume_fuel(true);
        let engine = Engine::new(&config).map_err(|error| ModuleError(format!("{error:#}")))?;
        let module = wasmtime::Module::new(&engine, bytes)
            .map_err(|error| ModuleError(format!("not a WebAssembly module: {error:#}")))?;
        check_abi(&module)?;
        let compiled = Compiled { bytes: bytes.to_vec(), engine, module };
        let module = Self { compiled: Arc::new(compiled) };
        module.link().map_err(|error| ModuleError(format!("cannot link: {error:#}")))?;
        Ok(module)
    }

    /// The code with the host's functions in place of its imports.
    pub(crate) fn link(&self) -> wasmtime::Result<InstancePre<Data>> {
        let mut linker = Linker::new(self.engine());
        imports::define(&mut linker)?;
        linker.instantiate_pre(&self.compiled.module)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.compiled.engine
    }

    /// Whether it is the same code, compiled together or not.
    pub(crate) fn is_same_code(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.compiled, &other.compiled) || self.compiled.bytes == other.compiled.bytes
    }

    /// Everything the plugin imports, as `module.name`, in the module's order.
    pub fn imports(&self) -> Vec<String> {
        let module = &self.compiled.module;
        module.imports().map(|import| format!("{}.{}", import.module(), import.name())).collect()
    }

    /// Names of everything the plugin exports, in the module's order.
    pub fn exports(&self) -> Vec<String> {
        let module = &self.compiled.module;
        module.exports().map(|export| export.name().to_owned()).collect()
    }
}

fn check_abi(module: &wasmtime::Module) -> Result<(), ModuleError> {
    const PREFIX: &str = "proxy_abi_version_";
    let versions: Vec<_> = module.exports().filter_map(|export| export.name().strip_prefix(PREFIX)).collect();
    if versions.iter().any(|version| matches!(*version, "0_2_0" | "0_2_1")) {
        return Ok(());
    }
    let found = if versions.is_empty() { "no such export".to_owned() } else { versions.join(", ") };
    Err(ModuleError(format!(
        "not a proxy-wasm plugin that this host can run: expected an export {PREFIX}0_2_0 or {PREFIX}0_2_1, found {found}"
    )))
}

impl fmt::Debug for Module {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Module({:p})", Arc::as_ptr(&self.compiled))
    }
}

/// Why a module is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleError(pub(crate) String);

impl fmt::Display for ModuleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ModuleError {}
