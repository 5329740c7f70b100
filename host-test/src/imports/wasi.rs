//! WASI preview 1 as Envoy's host has it: clocks, randomness, environment, output as log lines. Files and sockets exist
//! in name only.

use wasmtime::{Caller, Linker};

use crate::guest::{Fault, Guest, enter_wasi};
use crate::logs::LogLevel;
use crate::vm::Data;

const SUCCESS: u32 = 0;
const EBADF: u32 = 8;
const EINVAL: u32 = 28;
const ENOENT: u32 = 44;
const ENOSYS: u32 = 52;
const ENOTSUP: u32 = 58;

/// Most bytes of one `random_get`, as in the real host.
const RANDOM_LIMIT: u32 = 64 * 1024;

pub(super) fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
        define_output(linker, module)?;
        define_environment(linker, module)?;
        define_refusals(linker, module)?;
    }
    // What C++ toolchains import besides.
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_memory: u32| {})?;
    linker.func_wrap("env", "pthread_equal", |left: u32, right: u32| u32::from(left == right))?;
    Ok(())
}

fn define_output(linker: &mut Linker<Data>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(
        module,
        "fd_write",
        |caller: Caller<'_, Data>, fd: u32, vectors: u32, count: u32, written_at: u32| {
            enter_wasi(caller, |guest| write_log(guest, fd, vectors, count, written_at))
        },
    )?;
    linker.func_wrap(module, "fd_fdstat_get", |caller: Caller<'_, Data>, fd: u32, stat_at: u32| {
        enter_wasi(caller, |guest| {
            if fd != 1 && fd != 2 {
                return Ok(EBADF);
            }
            // Rights of the descriptor, the second word of three: it may be written to.
            let mut stat = [0_u8; 24];
            stat[8] = 64;
            guest.write(stat_at, &stat)?;
            Ok(SUCCESS)
        })
    })?;
    linker.func_wrap(module, "proc_exit", |_caller: Caller<'_, Data>, code: u32| -> wasmtime::Result<()> {
        Err(wasmtime::Error::msg(format!("proc_exit({code})")))
    })?;
    Ok(())
}

/// Standard output becomes an info line, standard error an error line; one closing newline is dropped.
fn write_log(guest: &mut Guest<'_>, fd: u32, vectors: u32, count: u32, written_at: u32) -> Result<u32, Fault> {
    let level = match fd {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Ok(EBADF),
    };
    let mut bytes = Vec::new();
    for index in 0..count {
        let at = vectors.wrapping_add(index.wrapping_mul(8));
        let pointer = guest.read_word(at)?;
        let size = guest.read_word(at.wrapping_add(4))?;
        bytes.extend(guest.read(pointer, size)?);
    }
    let written = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    if written > 0 {
        let text = String::from_utf8_lossy(&bytes);
        let line = text.strip_suffix('\n').unwrap_or(&text).to_owned();
        let plugin = guest.state.acting().map(|context| context.root.plugin.clone());
        let thread = guest.state.thread;
        guest.host.log(thread, &plugin.unwrap_or_default(), level, line);
    }
    guest.write_word(written_at, written)?;
    Ok(SUCCESS)
}

fn define_environment(linker: &mut Linker<Data>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(module, "environ_sizes_get", |caller: Caller<'_, Data>, count_at: u32, size_at: u32| {
        enter_wasi(caller, |guest| {
            let entries = environment(guest);
            let size: usize = entries.iter().map(Vec::len).sum();
            guest.write_word(count_at, u32::try_from(entries.len()).unwrap_or(0))?;
            guest.write_word(size_at, u32::try_from(size).unwrap_or(0))?;
            Ok(SUCCESS)
        })
    })?;
    linker.func_wrap(module, "environ_get", |caller: Caller<'_, Data>, mut pointers_at: u32, mut bytes_at: u32| {
        enter_wasi(caller, |guest| {
            for entry in environment(guest) {
                guest.write_word(pointers_at, bytes_at)?;
                guest.write(bytes_at, &entry)?;
                pointers_at = pointers_at.wrapping_add(4);
                bytes_at = bytes_at.wrapping_add(u32::try_from(entry.len()).unwrap_or(0));
            }
            Ok(SUCCESS)
        })
    })?;
    linker.func_wrap(
        module,
        "clock_time_get",
        |caller: Caller<'_, Data>, id: u32, _precision: u64, time_at: u32| {
            enter_wasi(caller, |guest| {
                let micros = match id {
                    0 => guest.host.clock.micros(),
                    1 => guest.host.clock.shown_steady_micros(),
                    _ => return Ok(ENOTSUP),
                };
                guest.write(time_at, &micros.saturating_mul(1000).to_le_bytes())?;
                Ok(SUCCESS)
            })
        },
    )?;
    linker.func_wrap(module, "random_get", |caller: Caller<'_, Data>, bytes_at: u32, size: u32| {
        enter_wasi(caller, |guest| {
            if size > RANDOM_LIMIT {
                return Ok(EINVAL);
            }
            let mut bytes = Vec::new();
            while bytes.len() < size as usize {
                bytes.extend(guest.host.next_random().to_le_bytes());
            }
            bytes.truncate(size as usize);
            guest.write(bytes_at, &bytes)?;
            Ok(SUCCESS)
        })
    })?;
    linker.func_wrap(module, "args_sizes_get", |caller: Caller<'_, Data>, count_at: u32, size_at: u32| {
        enter_wasi(caller, |guest| {
            guest.write_word(count_at, 0)?;
            guest.write_word(size_at, 0)?;
            Ok(SUCCESS)
        })
    })?;
    linker.func_wrap(module, "args_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(module, "sched_yield", || SUCCESS)?;
    Ok(())
}

fn environment(guest: &Guest<'_>) -> Vec<Vec<u8>> {
    let variables = &guest.state.key.environment;
    variables.iter().map(|(name, value)| format!("{name}={value}\0").into_bytes()).collect()
}

/// Files, directories and sockets: every call is refused, with the errno that says why.
#[rustfmt::skip]
fn define_refusals(linker: &mut Linker<Data>, module: &str) -> wasmtime::Result<()> {
    linker.func_wrap(module, "fd_read", |_: u32, _: u32, _: u32, _: u32| ENOSYS)?;
    linker.func_wrap(module, "fd_seek", |_: u32, _: u64, _: u32, _: u32| SUCCESS)?;
    linker.func_wrap(module, "fd_close", |_: u32| SUCCESS)?;
    linker.func_wrap(module, "fd_advise", |_: u32, _: u64, _: u64, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_allocate", |_: u32, _: u64, _: u64| ENOTSUP)?;
    linker.func_wrap(module, "fd_datasync", |_: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_fdstat_set_flags", |_: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_fdstat_set_rights", |_: u32, _: u64, _: u64| ENOTSUP)?;
    linker.func_wrap(module, "fd_filestat_get", |_: u32, _: u32| EBADF)?;
    linker.func_wrap(module, "fd_filestat_set_size", |_: u32, _: u64| ENOTSUP)?;
    linker.func_wrap(module, "fd_filestat_set_times", |_: u32, _: u64, _: u64, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_pread", |_: u32, _: u32, _: u32, _: u64, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_prestat_get", |_: u32, _: u32| EBADF)?;
    linker.func_wrap(module, "fd_prestat_dir_name", |_: u32, _: u32, _: u32| EBADF)?;
    linker.func_wrap(module, "fd_pwrite", |_: u32, _: u32, _: u32, _: u64, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_readdir", |_: u32, _: u32, _: u32, _: u64, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_renumber", |_: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_sync", |_: u32| ENOTSUP)?;
    linker.func_wrap(module, "fd_tell", |_: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_create_directory", |_: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_filestat_get", |_: u32, _: u32, _: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_filestat_set_times", |_: u32, _: u32, _: u32, _: u32, _: u64, _: u64, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_link", |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_open", |_: u32, _: u32, _: u32, _: u32, _: u32, _: u64, _: u64, _: u32, _: u32| ENOENT)?;
    linker.func_wrap(module, "path_readlink", |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_remove_directory", |_: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_rename", |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_symlink", |_: u32, _: u32, _: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "path_unlink_file", |_: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "poll_oneoff", |_: u32, _: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "proc_raise", |_: u32| ENOTSUP)?;
    linker.func_wrap(module, "clock_res_get", |_: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "sock_accept", |_: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "sock_recv", |_: u32, _: u32, _: u32, _: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "sock_send", |_: u32, _: u32, _: u32, _: u32, _: u32| ENOTSUP)?;
    linker.func_wrap(module, "sock_shutdown", |_: u32, _: u32| ENOTSUP)?;
    Ok(())
}
