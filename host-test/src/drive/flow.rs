//! How a request and its response move through the plugin: callbacks for headers, body and trailers, holding and
//! resuming, and the upstream's answer.

use std::rc::Rc;

use super::{Drive, Said, Step, Stop, Verdict};
use crate::context::StandsFor;
use crate::host::Upstream;
use crate::message::{Message, Response};
use crate::stream::{Direction, End, Flow, Held, Part, Stage, StreamCell};
use crate::vm::Called;

impl Drive {
    pub(super) fn begin(&mut self, cell: Rc<StreamCell>) {
        if let (Some(vm), Some(root)) = (&self.vm, &cell.root)
            && !vm.state.failed()
        {
            let id = vm.state.add_context(root, StandsFor::Stream(Rc::clone(&cell)));
            cell.context.set(id);
            self.call(id, "proxy_on_context_create", &[id, root.id]);
        }
        self.follow([Step::Flow(cell, Direction::Request)]);
    }

    /// Shows the next part to the plugin, unless it holds this direction.
    pub(super) fn flow(&mut self, cell: Rc<StreamCell>, direction: Direction) {
        let Some((stage, size, end)) = take_part(&cell, direction) else {
            return;
        };
        let context = cell.context.get();
        let request = direction == Direction::Request;
        let called = match stage {
            Stage::Headers => {
                let export = if request { "proxy_on_request_headers" } else { "proxy_on_response_headers" };
                self.call(context, export, &[context, size, u32::from(end)])
            }
            Stage::Body => {
                let export = if request { "proxy_on_request_body" } else { "proxy_on_response_body" };
                self.call(context, export, &[context, size, u32::from(end)])
            }
            Stage::Trailers => {
                let export = if request { "proxy_on_request_trailers" } else { "proxy_on_response_trailers" };
                self.call(context, export, &[context, size])
            }
        };
        let said = match called {
            Called::Failed => Said::Nothing,
            Called::Missing => Said::Continue,
            // After a local reply the real host asks no further.
            Called::Returned(_) if self.stopped.get() => Said::Stop(Stop::All),
            Called::Returned(number) => verdict_of(stage, number, cell.headers_may_stop_alone),
        };
        let verdict = Verdict { stage, end, said };
        self.follow([Step::Apply(cell, direction, verdict)]);
    }

    pub(super) fn apply(&mut self, cell: &Rc<StreamCell>, direction: Direction, verdict: Verdict) {
        let Verdict { stage, end, said } = verdict;
        let (prepared, resumed, buffered) = {
            let mut state = cell.state.borrow_mut();
            if state.end.is_some() {
                return;
            }
            let prepared = match direction {
                Direction::Request => state.prepared.take(),
                Direction::Response => None,
            };
            let flow = state.flow(direction);
            flow.in_callback = false;
            (prepared, flow.resumed, flow.body.len())
        };
        if let Some(reply) = prepared {
            return self.send_reply(cell, reply);
        }
        match said {
            Said::Nothing if !cell.fails_open => self.fail_stream(cell),
            Said::Stop(stop) if !resumed => {
                cell.state.borrow_mut().flow(direction).hold(stage, end, stop);
                if stop == Stop::Buffer && buffered > self.host.settings.buffer_limit {
                    return self.too_large(cell, direction);
                }
                self.follow([Step::Flow(Rc::clone(cell), direction)]);
            }
            _ => self.pass(cell, direction, stage, end),
        }
    }

    /// Lets a part through and goes on with what waits behind it.
    fn pass(&mut self, cell: &Rc<StreamCell>, direction: Direction, stage: Stage, end: bool) {
        cell.state.borrow_mut().flow(direction).let_through(stage, end);
        match (direction, end) {
            (_, false) => self.follow([Step::Flow(Rc::clone(cell), direction)]),
            (Direction::Request, true) => self.upstream(cell),
            (Direction::Response, true) => {
                self.follow([Step::Finish(Rc::clone(cell), End::Complete)]);
            }
        }
    }

    fn upstream(&mut self, cell: &Rc<StreamCell>) {
        let upstream = self.host.upstream.borrow().clone();
        match upstream {
            Upstream::Direct(response) => self.follow([Step::Respond(Rc::clone(cell), response)]),
            Upstream::Later(response) => {
                let step = Step::Respond(Rc::clone(cell), response);
                self.host.post(cell.thread, cell.vm.clone(), step);
            }
            Upstream::Manual => {}
        }
    }

    /// Ignored unless the plugin holds this direction; inside the direction's own callback it overrules a pause.
    pub(super) fn resume(&mut self, cell: &Rc<StreamCell>, direction: Direction) {
        let held = {
            let mut state = cell.state.borrow_mut();
            if state.end.is_some() {
                return;
            }
            let answered = state.reply.is_some();
            let flow = state.flow(direction);
            if flow.in_callback {
                flow.resumed = true;
            }
            if answered && direction == Direction::Request { None } else { flow.held.take() }
        };
        if let Some(Held { stage, end, .. }) = held {
            self.pass(cell, direction, stage, end);
        }
    }

    /// The upstream's answer; ignored when nothing has reached it or an answer is on its way.
    pub(super) fn respond(&mut self, cell: Rc<StreamCell>, response: Response) {
        {
            let mut state = cell.state.borrow_mut();
            let unasked = state.request.through.is_none();
            if state.end.is_some() || unasked || !state.response.headers.is_empty() {
                return;
            }
            state.response.fill(response.headers, response.body, response.trailers, false);
        }
        self.follow([Step::Flow(cell, Direction::Response)]);
    }
}

/// Takes the next part off the queue, makes it visible to host functions and gives its callback's size argument.
fn take_part(cell: &StreamCell, direction: Direction) -> Option<(Stage, u32, bool)> {
    let mut state = cell.state.borrow_mut();
    let answered = direction == Direction::Request && state.reply.is_some();
    if state.end.is_some() || answered {
        return None;
    }
    let flow = state.flow(direction);
    if flow.in_callback {
        return None;
    }
    if !flow.held.is_none_or(|held| held.shows_more && !held.end) {
        return None;
    }
    let part = flow.waiting.pop_front()?;
    flow.in_callback = true;
    flow.resumed = false;
    let count = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    Some(match part {
        Part::Headers { end } => {
            flow.visible.headers = true;
            (Stage::Headers, count(flow.headers.len()), end)
        }
        Part::Body { bytes, end } => {
            flow.body.extend(bytes);
            flow.visible.body = true;
            (Stage::Body, count(flow.body.len()), end)
        }
        Part::Trailers => {
            flow.visible.trailers = true;
            (Stage::Trailers, count(flow.trailers.len()), true)
        }
    })
}

/// What the number that a callback returned means, as proxy-wasm-cpp-host and Envoy read it.
fn verdict_of(stage: Stage, number: u32, headers_may_stop_alone: bool) -> Said {
    let stop = match (stage, number) {
        (_, 0) => return Said::Continue,
        (Stage::Headers, 1) if headers_may_stop_alone => Stop::Headers,
        (Stage::Headers | Stage::Trailers, _) => Stop::All,
        (Stage::Body, 1) => Stop::Buffer,
        (Stage::Body, 2) => Stop::Watermark,
        (Stage::Body, _) => Stop::Drop,
    };
    Said::Stop(stop)
}

impl Flow {
    /// Keeps a part where it is, in the way that the plugin chose.
    fn hold(&mut self, stage: Stage, end: bool, stop: Stop) {
        // Bytes that an earlier callback had buffered are the host's already, and stay.
        let was_buffered = self.held.is_some_and(|held| held.buffers);
        match stop {
            Stop::Watermark => self.aside.append(&mut self.body),
            Stop::Drop if !was_buffered => self.body.clear(),
            Stop::All | Stop::Headers | Stop::Buffer | Stop::Drop => {}
        }
        let buffers = stop == Stop::Buffer || (was_buffered && stop == Stop::Drop);
        self.held = Some(Held { stage, end, shows_more: stop != Stop::All, buffers });
    }

    fn let_through(&mut self, stage: Stage, end: bool) {
        self.held = None;
        if self.through.is_none() {
            self.visible.headers = false;
        }
        let through =
            self.through.get_or_insert_with(|| Message { headers: self.headers.clone(), ..Message::default() });
        through.complete = end;
        match stage {
            Stage::Headers => self.visible.headers = false,
            Stage::Body => self.visible.body = false,
            Stage::Trailers => {
                self.visible.trailers = false;
                through.trailers = Some(self.trailers.clone());
            }
        }
        if stage != Stage::Headers {
            through.body.append(&mut self.aside);
            through.body.append(&mut self.body);
        }
    }
}
