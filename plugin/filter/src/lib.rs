//! The engine as a proxy-wasm HTTP filter: contexts, shared-data counters, metrics. This crate alone talks to the host;
//! what is decided, and why, is the engine's.
//!
//! Nothing that a request, a policy or the host answers may trap: a trap ends the VM for every request of the worker.

mod abi;
mod admin;
mod alerts;
mod counters;
mod exchange;
mod fleet;
mod held;
mod host;
mod jobs;
mod root;
mod shared_table;
mod timer;
mod violations;
mod waiting;

use std::sync::OnceLock;

use tidegate_engine::catalogue::Catalogue;

/// What policies may name, fixed when the plugin starts.
static CATALOGUE: OnceLock<fn() -> Catalogue> = OnceLock::new();

/// Makes the crate that calls it a plugin: `tidegate_filter::plugin!(Catalogue::builtin());`. The argument is an
/// expression of type [`Catalogue`].
#[macro_export]
macro_rules! plugin {
    ($catalogue:expr) => {
        #[cfg(target_family = "wasm")]
        unsafe extern "C" {
            fn __wasm_call_ctors();
        }

        /// The module's start: the host calls it once, before anything else.
        #[unsafe(no_mangle)]
        pub extern "C" fn _initialize() {
            // SAFETY: the linker makes this function; it is called once, before any other code of the module.
            #[cfg(target_family = "wasm")]
            unsafe {
                __wasm_call_ctors();
            }
            $crate::start(|| $catalogue);
        }
    };
}

/// Says which catalogue policies may name. Called once, by [`plugin!`].
pub fn start(catalogue: fn() -> Catalogue) {
    // A second start in one VM can only be the same plugin's.
    let _ = CATALOGUE.set(catalogue);
}

fn catalogue() -> Catalogue {
    CATALOGUE.get().map_or_else(Catalogue::builtin, |make| make())
}
