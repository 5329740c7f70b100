//! What reaches a root context or a connection from outside: ticks, queue items, callout answers, bytes of a connection.

use std::rc::Rc;

use super::{Drive, Step};
use crate::callout::{Answer, CalloutKind, Pending};
use crate::connection::{ConnectionCell, ConnectionEvent};
use crate::context::{Answered, Context, Root, StandsFor, Tick};
use crate::vm::Called;

impl Drive {
    fn context(&self, id: u32) -> Option<Context> {
        self.vm.as_ref().and_then(|vm| vm.state.context(id))
    }

    /// Ticks once and arms the timer anew from the present.
    pub(super) fn tick(&mut self, context: u32) {
        let Some(Context { root, .. }) = self.context(context) else {
            return;
        };
        self.call(context, "proxy_on_tick", &[context]);
        let now = self.host.clock.steady_micros();
        let next = root.tick.get().map(|Tick { period, .. }| Tick { period, due: now.saturating_add(period) });
        root.tick.set(next);
    }

    pub(super) fn queue_ready(&mut self, context: u32, token: u32) {
        if self.context(context).is_some() {
            self.call(context, "proxy_on_queue_ready", &[context, token]);
        }
    }

    pub(super) fn answer(&mut self, token: u32, answer: Answer) {
        let pending = self.vm.as_ref().and_then(|vm| vm.state.callouts.borrow().get(&token).cloned());
        let Some(pending) = pending else {
            return;
        };
        let Some(Context { root, .. }) = self.context(pending.context) else {
            return;
        };
        if pending.callout.kind == CalloutKind::Http {
            self.forget(token);
            self.http_answer(&root, token, &answer);
        } else {
            self.grpc_answer(&root, token, &pending, answer);
        }
        self.follow([Step::AnswerSeen(root.id)]);
    }

    fn forget(&self, token: u32) {
        if let Some(vm) = &self.vm {
            vm.state.callouts.borrow_mut().remove(&token);
        }
    }

    fn http_answer(&mut self, root: &Rc<Root>, token: u32, answer: &Answer) {
        let mut sizes = [0; 3];
        if let Some(response) = answer.as_response() {
            let trailers = response.trailers.unwrap_or_default();
            sizes = [response.headers.len(), response.body.len(), trailers.len()];
            *root.answer.borrow_mut() = Some(Answered { headers: response.headers, body: response.body, trailers });
        } else {
            *root.status.borrow_mut() = (11, "reset".to_owned());
        }
        let [headers, body, trailers] = sizes.map(count);
        let arguments = [root.id, token, headers, body, trailers];
        self.call(root.id, "proxy_on_http_call_response", &arguments);
    }

    fn grpc_answer(&mut self, root: &Rc<Root>, token: u32, pending: &Pending, answer: Answer) {
        let one_answer = matches!(pending.callout.kind, CalloutKind::GrpcCall { .. });
        let (export, number) = match answer {
            Answer::GrpcInitial(headers) => {
                let size = count(headers.len());
                root.grpc.borrow_mut().initial = Some(headers);
                ("proxy_on_grpc_receive_initial_metadata", size)
            }
            Answer::GrpcTrailing(headers) => {
                let size = count(headers.len());
                root.grpc.borrow_mut().trailing = Some(headers);
                ("proxy_on_grpc_receive_trailing_metadata", size)
            }
            Answer::GrpcMessage(bytes) => {
                if one_answer {
                    self.forget(token);
                }
                let size = count(bytes.len());
                root.grpc.borrow_mut().message = Some(bytes);
                ("proxy_on_grpc_receive", size)
            }
            other => {
                self.forget(token);
                let status = match other {
                    Answer::GrpcClose(code, message) => (code, message),
                    Answer::Timeout => (4, "deadline exceeded".to_owned()),
                    _ => (14, "unavailable".to_owned()),
                };
                let code = status.0;
                *root.status.borrow_mut() = status;
                ("proxy_on_grpc_close", code)
            }
        };
        self.call(root.id, export, &[root.id, token, number]);
    }

    /// The callback of an answer is over: it can no longer be read. The status code stays.
    pub(super) fn answer_seen(&mut self, context: u32) {
        if let Some(Context { root, .. }) = self.context(context) {
            *root.answer.borrow_mut() = None;
            *root.grpc.borrow_mut() = crate::context::GrpcVisible::default();
            root.status.borrow_mut().1.clear();
        }
    }

    pub(super) fn connection(&mut self, cell: &Rc<ConnectionCell>, event: &ConnectionEvent) {
        if cell.closed.get() {
            return;
        }
        if let ConnectionEvent::Opened(root) = event
            && let Some(vm) = &self.vm
        {
            let id = vm.state.add_context(root, StandsFor::Connection(Rc::clone(cell)));
            cell.context.set(id);
            self.call(id, "proxy_on_context_create", &[id, root.id]);
        }
        let id = cell.context.get();
        let called = match event {
            ConnectionEvent::Opened(_) => self.call(id, "proxy_on_new_connection", &[id]),
            ConnectionEvent::Downstream { end } => {
                let size = count(cell.downstream.borrow().len());
                self.call(id, "proxy_on_downstream_data", &[id, size, u32::from(*end)])
            }
            ConnectionEvent::Upstream { end } => {
                let size = count(cell.upstream.borrow().len());
                self.call(id, "proxy_on_upstream_data", &[id, size, u32::from(*end)])
            }
            ConnectionEvent::Closed => return self.close_connection(cell, id),
        };
        cell.after_callback(event, called != Called::Returned(0) && called != Called::Missing);
    }

    fn close_connection(&mut self, cell: &Rc<ConnectionCell>, id: u32) {
        cell.closed.set(true);
        // Peer type 2: the remote side closed.
        self.call(id, "proxy_on_downstream_connection_close", &[id, 2]);
        self.call(id, "proxy_on_log", &[id]);
        self.call(id, "proxy_on_done", &[id]);
        self.call(id, "proxy_on_delete", &[id]);
        if let Some(vm) = &self.vm {
            vm.state.contexts.borrow_mut().remove(&id);
        }
    }
}

fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
