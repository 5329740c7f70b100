//! The functions that plugins import, by area. Each is registered under its ABI name and goes through
//! [`enter`](crate::guest::enter).

mod callouts;
mod general;
mod maps;
mod metrics;
mod shared;
mod streams;
mod wasi;

use wasmtime::Linker;

use crate::vm::Data;

/// Registers every function of ABI 0.2.1 and of WASI preview 1 that Envoy's host has.
pub(crate) fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    general::define(linker)?;
    maps::define(linker)?;
    streams::define(linker)?;
    shared::define(linker)?;
    metrics::define(linker)?;
    callouts::define(linker)?;
    wasi::define(linker)
}

/// Registers one `env` function: its name, its arguments (all u32 unless typed) and its body over the calling guest.
macro_rules! host_function {
    ($linker:ident, $name:ident ( $($argument:ident $(: $kind:ty)?),* ) |$guest:ident| $body:block) => {
        $linker.func_wrap(
            "env",
            stringify!($name),
            |caller: wasmtime::Caller<'_, $crate::vm::Data> $(, $argument: $crate::imports::kind!($($kind)?))*|
                -> wasmtime::Result<u32> {
                $crate::guest::enter(caller, stringify!($name), |$guest| $body)
            },
        )?;
    };
}

/// The type of an argument: u32 where none is written.
macro_rules! kind {
    () => {
        u32
    };
    ($kind:ty) => {
        $kind
    };
}

pub(crate) use host_function;
pub(crate) use kind;
