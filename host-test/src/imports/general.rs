//! Logging, time, properties, contexts, status, and foreign functions.

use wasmtime::Linker;

use super::host_function;
use crate::abi::Status;
use crate::context::Tick;
use crate::drive::Step;
use crate::logs::LogLevel;
use crate::property;
use crate::vm::Data;

pub(super) fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    define_log_and_time(linker)?;
    define_properties(linker)?;
    host_function!(
        linker,
        proxy_set_effective_context(context) | guest | {
            guest.state.context(context).ok_or(Status::BadArgument)?;
            guest.state.effective.set(context);
            Ok(())
        }
    );
    host_function!(
        linker,
        proxy_done() | guest | {
            let root = guest.root()?;
            if !root.waiting_for_done.replace(false) {
                return Err(Status::NotFound.into());
            }
            guest.state.actions.borrow_mut().push_back(Step::RootDelete(root.id));
            Ok(())
        }
    );
    host_function!(
        linker,
        proxy_call_foreign_function(name, name_size, argument, argument_size, result_at, size_at) | guest | {
            let name = guest.read(name, name_size)?;
            guest.read(argument, argument_size)?;
            // The one foreign function that changes nothing here: routes are not modelled.
            if name != b"clear_route_cache" {
                return Err(Status::NotFound.into());
            }
            for at in [result_at, size_at] {
                if at != 0 {
                    guest.write_word(at, 0)?;
                }
            }
            Ok(())
        }
    );
    host_function!(
        linker,
        proxy_get_status(code_at, message_at, size_at) | guest | {
            let status = guest.root()?.status.borrow().clone();
            guest.write_word(code_at, status.0)?;
            guest.give(status.1.as_bytes(), message_at, size_at)
        }
    );
    Ok(())
}

fn define_log_and_time(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_log(level, message, size) | guest | {
            let level = LogLevel::from_number(level).ok_or(Status::BadArgument)?;
            let message = guest.read(message, size)?;
            let plugin = guest.state.acting().map(|context| context.root.plugin.clone());
            let text = String::from_utf8_lossy(&message).into_owned();
            guest.host.log(guest.state.thread, &plugin.unwrap_or_default(), level, text);
            Ok(())
        }
    );
    host_function!(
        linker,
        proxy_get_log_level(level_at) | guest | {
            let level = guest.host.settings.log_level as u32;
            guest.write_word(level_at, level)
        }
    );
    host_function!(
        linker,
        proxy_get_current_time_nanoseconds(time_at) | guest | {
            let nanos = guest.host.clock.micros().saturating_mul(1000);
            guest.write(time_at, &nanos.to_le_bytes())
        }
    );
    host_function!(
        linker,
        proxy_set_tick_period_milliseconds(period) | guest | {
            let root = guest.root()?;
            let period = u64::from(period) * 1000;
            let due = guest.host.clock.steady_micros().saturating_add(period);
            root.tick.set((period > 0).then_some(Tick { period, due }));
            Ok(())
        }
    );
    Ok(())
}

fn define_properties(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_get_property(path, path_size, value_at, size_at) | guest | {
            let path = guest.read(path, path_size)?;
            let context = guest.context()?;
            let value = property::lookup(&guest.state, &context, &path)?;
            guest.give(&value, value_at, size_at)
        }
    );
    host_function!(
        linker,
        proxy_set_property(path, path_size, value, value_size) | guest | {
            let path = guest.read(path, path_size)?;
            let value = guest.read(value, value_size)?;
            let stream = guest.stream().ok_or(Status::NotFound)?;
            stream.state.borrow_mut().set_properties.insert(path, value);
            Ok(())
        }
    );
    Ok(())
}
