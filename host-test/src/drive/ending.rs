//! The end of a stream, and of a root context that is no longer wanted: log, done, delete, each a callback of its own.

use std::rc::Rc;

use super::{Drive, Step};
use crate::stream::{End, StreamCell};
use crate::vm::Called;

impl Drive {
    pub(super) fn finish(&mut self, cell: Rc<StreamCell>, end: End) {
        {
            let mut state = cell.state.borrow_mut();
            if state.end.is_some() {
                return;
            }
            state.end = Some(end);
            state.logging = true;
        }
        let context = cell.context.get();
        if context != 0 {
            self.call(context, "proxy_on_log", &[context]);
            self.follow([Step::Done(cell)]);
        }
    }

    pub(super) fn done(&mut self, cell: Rc<StreamCell>) {
        cell.state.borrow_mut().logging = false;
        let context = cell.context.get();
        self.call(context, "proxy_on_done", &[context]);
        self.follow([Step::Delete(cell)]);
    }

    pub(super) fn delete(&mut self, cell: &Rc<StreamCell>) {
        let context = cell.context.get();
        self.call(context, "proxy_on_delete", &[context]);
        if let (Some(vm), Some(root)) = (&self.vm, &cell.root) {
            vm.state.contexts.borrow_mut().remove(&context);
            self.host.root_may_go(vm, root);
        }
    }

    /// A plugin that answers 0 keeps the root until it calls `proxy_done`.
    pub(super) fn root_done(&mut self, context: u32) {
        let called = self.call(context, "proxy_on_done", &[context]);
        if called != Called::Returned(0) {
            return self.follow([Step::RootDelete(context)]);
        }
        let found = self.vm.as_ref().and_then(|vm| vm.state.context(context));
        if let Some(found) = found {
            found.root.waiting_for_done.set(true);
        }
    }

    pub(super) fn root_delete(&mut self, context: u32) {
        self.call(context, "proxy_on_delete", &[context]);
        if let Some(vm) = &self.vm {
            vm.state.contexts.borrow_mut().remove(&context);
            vm.state.callouts.borrow_mut().retain(|_, pending| pending.context != context);
            self.host.drop_empty_vms();
        }
    }
}
