//! The engine as a proxy-wasm HTTP filter: contexts, shared-data counters, metrics. This crate alone talks to the host;
//! what is decided, and why, is the engine's.
//!
//! Nothing that a request, a policy or the host answers may trap: a trap ends the VM for every request of the worker.

mod counters;
mod exchange;
mod host;
mod root;
mod shared_table;

use std::sync::OnceLock;

use tidegate_engine::catalogue::Catalogue;

#[doc(hidden)]
pub use proxy_wasm;

/// What policies may name, fixed when the plugin starts.
static CATALOGUE: OnceLock<fn() -> Catalogue> = OnceLock::new();

/// Makes the crate that calls it a plugin: `tidegate_filter::plugin!(Catalogue::builtin());`. The argument is an
/// expression of type [`Catalogue`].
#[macro_export]
macro_rules! plugin {
    ($catalogue:expr) => {
        $crate::proxy_wasm::main! {{
            $crate::start(|| $catalogue);
        }}
    };
}

/// Registers the filter's contexts with the host. Called once, by [`plugin!`].
pub fn start(catalogue: fn() -> Catalogue) {
    // A second start in one VM can only be the same plugin's.
    let _ = CATALOGUE.set(catalogue);
    proxy_wasm::set_root_context(|_| Box::new(root::Root::default()));
}

fn catalogue() -> Catalogue {
    CATALOGUE.get().map_or_else(Catalogue::builtin, |make| make())
}
