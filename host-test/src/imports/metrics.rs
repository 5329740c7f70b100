//! Metrics. An id is a number of the VM with the kind in its two lowest bits; two definitions of one name give two ids of
//! one value.

use wasmtime::Linker;

use super::host_function;
use crate::abi::Status;
use crate::guest::{Fault, Guest};
use crate::metrics::MetricKind;
use crate::vm::Data;

pub(super) fn define(linker: &mut Linker<Data>) -> wasmtime::Result<()> {
    host_function!(
        linker,
        proxy_define_metric(kind, name, name_size, id_at) | guest | {
            let number = kind;
            let kind = MetricKind::from_number(number).ok_or(Status::BadArgument)?;
            let name = guest.read(name, name_size)?;
            let name = String::from_utf8_lossy(&name).into_owned();
            guest.host.metrics.borrow_mut().define(kind, &name);
            let id = {
                let mut ids = guest.state.metric_ids.borrow_mut();
                let id = u32::try_from(ids.len() + 1).unwrap_or(u32::MAX >> 2) << 2 | number;
                ids.insert(id, (kind, name));
                id
            };
            guest.write_word(id_at, id)
        }
    );
    host_function!(linker, proxy_increment_metric(id, offset: i64) |guest| {
        let (kind, name) = named(guest, id)?;
        Ok(guest.host.metrics.borrow_mut().increment(kind, &name, offset)?)
    });
    host_function!(linker, proxy_record_metric(id, value: u64) |guest| {
        let (kind, name) = named(guest, id)?;
        Ok(guest.host.metrics.borrow_mut().record(kind, &name, value)?)
    });
    host_function!(
        linker,
        proxy_get_metric(id, value_at) | guest | {
            let (kind, name) = named(guest, id)?;
            let value = guest.host.metrics.borrow().read(kind, &name)?;
            guest.write(value_at, &value.to_le_bytes())
        }
    );
    Ok(())
}

fn named(guest: &Guest<'_>, id: u32) -> Result<(MetricKind, String), Fault> {
    MetricKind::from_number(id & 3).ok_or(Status::BadArgument)?;
    let ids = guest.state.metric_ids.borrow();
    Ok(ids.get(&id).cloned().ok_or(Status::NotFound)?)
}
