//! A host function's view of the plugin that calls it: its memory, its acting context, and the way bytes are returned.

use std::rc::Rc;

use wasmtime::{Caller, Memory};

use crate::abi::Status;
use crate::context::{Context, Root};
use crate::host::Inner;
use crate::stream::StreamCell;
use crate::vm::{Data, VmState};

/// What a host function ends with.
pub(crate) type Outcome = Result<(), Fault>;

/// Why a host function did not do what it was asked.
pub(crate) enum Fault {
    /// An answer to the plugin.
    Status(Status),
    /// The end of the VM.
    Trap(wasmtime::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The caller of a host function.
pub(crate) struct Guest<'a> {
    caller: Caller<'a, Data>,
    pub(crate) state: Rc<VmState>,
    pub(crate) host: Rc<Inner>,
}

/// Runs a host function: counts it, lets a test interrupt, refuses it in start-up code, and turns its outcome into the
/// number that the plugin gets.
pub(crate) fn enter(
    caller: Caller<'_, Data>,
    function: &'static str,
    body: impl FnOnce(&mut Guest<'_>) -> Outcome,
) -> wasmtime::Result<u32> {
    let state = Rc::clone(&caller.data().state);
    let Some(host) = state.host.upgrade() else {
        return Ok(Status::InternalFailure as u32);
    };
    let mut guest = Guest { caller, state, host };
    let logs = matches!(function, "proxy_log" | "proxy_get_log_level");
    if guest.state.restricted.get() && !logs {
        return Ok(Status::InternalFailure as u32);
    }
    guest.host.note_call(guest.state.thread, function);
    let outcome = match guest.host.failure_of(guest.state.thread, function) {
        Some(failure) => Err(failure),
        None => body(&mut guest),
    };
    match outcome {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fault::Status(status)) => Ok(status as u32),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// As [`enter`] for WASI: not counted, allowed in start-up code, and the body gives the errno itself.
pub(crate) fn enter_wasi(
    caller: Caller<'_, Data>,
    body: impl FnOnce(&mut Guest<'_>) -> Result<u32, Fault>,
) -> wasmtime::Result<u32> {
    const IO: u32 = 29;
    const FAULT: u32 = 21;
    let state = Rc::clone(&caller.data().state);
    let Some(host) = state.host.upgrade() else {
        return Ok(IO);
    };
    let mut guest = Guest { caller, state, host };
    match body(&mut guest) {
        Ok(errno) => Ok(errno),
        Err(Fault::Status(_)) => Ok(FAULT),
        Err(Fault::Trap(error)) => Err(error),
    }
}

impl Guest<'_> {
    /// The context that this call acts on.
    pub(crate) fn context(&self) -> Result<Context, Fault> {
        // Start-up code has no context; the real host gives it a VM context on which nothing can be done.
        self.state.acting().ok_or(Fault::Status(Status::BadArgument))
    }

    pub(crate) fn root(&self) -> Result<Rc<Root>, Fault> {
        Ok(self.context()?.root)
    }

    /// The HTTP stream that this call acts on, where it is one.
    pub(crate) fn stream(&self) -> Option<Rc<StreamCell>> {
        self.state.acting()?.stream().cloned()
    }

    fn memory(&mut self) -> Result<Memory, Fault> {
        if let Some(memory) = self.caller.data().memory {
            return Ok(memory);
        }
        // Not noted yet: the module's own start function is running.
        let exported = self.caller.get_export("memory");
        exported.and_then(wasmtime::Extern::into_memory).ok_or(Fault::Status(Status::InvalidMemoryAccess))
    }

    pub(crate) fn read(&mut self, pointer: u32, size: u32) -> Result<Vec<u8>, Fault> {
        let memory = self.memory()?;
        let start = pointer as usize;
        let end = start.saturating_add(size as usize);
        let bytes = memory.data(&self.caller).get(start..end);
        bytes.map(<[u8]>::to_vec).ok_or(Fault::Status(Status::InvalidMemoryAccess))
    }

    pub(crate) fn read_word(&mut self, pointer: u32) -> Result<u32, Fault> {
        let bytes = self.read(pointer, 4)?;
        let word = bytes.try_into().map(u32::from_le_bytes);
        word.map_err(|_| Fault::Status(Status::InvalidMemoryAccess))
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Outcome {
        let memory = self.memory()?;
        memory.write(&mut self.caller, pointer as usize, bytes).map_err(|_| Fault::Status(Status::InvalidMemoryAccess))
    }

    pub(crate) fn write_word(&mut self, pointer: u32, word: u32) -> Outcome {
        self.write(pointer, &word.to_le_bytes())
    }

    /// Returns bytes: the plugin allocates, the host fills, pointer and size are written. No bytes need no allocation:
    /// the pointer is null.
    pub(crate) fn give(&mut self, bytes: &[u8], pointer_at: u32, size_at: u32) -> Outcome {
        let size = u32::try_from(bytes.len()).map_err(|_| Fault::Status(Status::InvalidMemoryAccess))?;
        let mut pointer = 0;
        if size > 0 {
            pointer = self.allocate(size)?;
            self.write(pointer, bytes)?;
        }
        self.write_word(pointer_at, pointer)?;
        self.write_word(size_at, size)
    }

    fn allocate(&mut self, size: u32) -> Result<u32, Fault> {
        let allocate = self.caller.data().allocate.clone();
        let allocate = allocate.ok_or(Status::InvalidMemoryAccess)?;
        let restricted = self.state.restricted.replace(true);
        let pointer = allocate.call(&mut self.caller, size);
        self.state.restricted.set(restricted);
        match pointer.map_err(Fault::Trap)? {
            0 => Err(Status::InvalidMemoryAccess.into()),
            pointer => Ok(pointer),
        }
    }
}
