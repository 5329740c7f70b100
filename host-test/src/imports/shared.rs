//! Shared data and shared queues.

use wasmtime::Linker;

use super::host_function;
use crate::abi::Status;
use crate::drive::Step;
use crate::shared::Consumer;
use crate::vm::Data;

pub(super) fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_get_shared_data(key, key_size, value_at, size_at, cas_at) | guest | {
            let key = guest.read(key, key_size)?;
            let (value, cas) = guest.host.shared.borrow().get(&guest.state.key.vm_id, &key)?;
            guest.give(&value, value_at, size_at)?;
            guest.write_word(cas_at, cas)
        }
    );
    host_function!(
        linker,
        proxy_set_shared_data(key, key_size, value, value_size, cas) | guest | {
            let key = guest.read(key, key_size)?;
            let value = guest.read(value, value_size)?;
            let vm_id = &guest.state.key.vm_id;
            Ok(guest.host.shared.borrow_mut().set(vm_id, &key, value, cas)?)
        }
    );
    define_queues(linker)
}

fn define_queues(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_register_shared_queue(name, name_size, token_at) | guest | {
            let name = guest.read(name, name_size)?;
            let consumer = Consumer { thread: guest.state.thread, vm: guest.state.number, context: guest.root()?.id };
            let vm_id = &guest.state.key.vm_id;
            let token = guest.host.shared.borrow_mut().register_queue(vm_id, &name, consumer);
            guest.write_word(token_at, token)
        }
    );
    host_function!(
        linker,
        proxy_resolve_shared_queue(vm_id, vm_id_size, name, name_size, token_at) | guest | {
            let asked = guest.read(vm_id, vm_id_size)?;
            let name = guest.read(name, name_size)?;
            let asked = String::from_utf8_lossy(&asked);
            let vm_id = if asked.is_empty() { guest.state.key.vm_id.as_str() } else { &asked };
            let token = guest.host.shared.borrow().resolve_queue(vm_id, &name).ok_or(Status::NotFound)?;
            guest.write_word(token_at, token)
        }
    );
    host_function!(
        linker,
        proxy_enqueue_shared_queue(token, data, data_size) | guest | {
            let item = guest.read(data, data_size)?;
            let consumer = guest.host.shared.borrow_mut().enqueue(token, item)?;
            if let Some(vm) = guest.host.vm_numbered(consumer.vm) {
                let step = Step::QueueReady { context: consumer.context, token };
                guest.host.post(consumer.thread, Some(vm), step);
            }
            Ok(())
        }
    );
    host_function!(
        linker,
        proxy_dequeue_shared_queue(token, data_at, size_at) | guest | {
            let item = guest.host.shared.borrow_mut().dequeue(token)?;
            guest.give(&item, data_at, size_at)
        }
    );
    Ok(())
}
