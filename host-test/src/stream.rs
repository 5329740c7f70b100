//! One HTTP exchange: the handle that a test holds and the state behind it. How it moves on is in `drive`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::context::Root;
use crate::drive::Step;
use crate::headers::Headers;
use crate::host::Host;
use crate::message::{Message, Request, Response};
use crate::plugin::{FailPolicy, Plugin};
use crate::thread::Thread;
use crate::vm::Vm;

/// A request at a worker. Dropping the handle changes nothing; the exchange goes on in the host.
#[derive(Clone)]
pub struct Stream {
    pub(crate) cell: Rc<StreamCell>,
    pub(crate) host: Host,
}

/// How a request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Held by the plugin, waiting for more of the request, or waiting for a busy worker.
    Paused,
    /// The upstream got (at least the headers of) this.
    Forwarded(Message),
    /// The plugin, or the host in the plugin's stead, answered.
    LocalReply(LocalReply),
    /// Closed without an answer.
    Reset,
    /// The client went away first.
    Disconnected,
    /// The VM was dead, or died in this request's callback, and the plugin fails closed: the client got 503.
    VmFailed,
}

/// A local reply as the plugin gave it, before its own response callbacks saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalReply {
    /// Status code.
    pub status: u16,
    /// The additional headers.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
    /// gRPC status, where the plugin gave one (it passes -1 for none).
    pub grpc_status: Option<u32>,
    /// Response code details, for access logs.
    pub details: String,
}

/// A direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

pub(crate) struct StreamCell {
    pub(crate) thread: Thread,
    /// `None` where the VM was dead before the request came.
    pub(crate) vm: Option<Rc<Vm>>,
    pub(crate) root: Option<Rc<Root>>,
    pub(crate) context: Cell<u32>,
    pub(crate) fails_open: bool,
    /// `allow_on_headers_stop_iteration` of the plugin.
    pub(crate) headers_may_stop_alone: bool,
    pub(crate) state: RefCell<StreamState>,
}

/// One direction: what has arrived, what the plugin holds, what has been let through.
#[derive(Default)]
pub(crate) struct Flow {
    pub(crate) headers: Headers,
    pub(crate) trailers: Headers,
    pub(crate) waiting: VecDeque<Part>,
    /// Body that is held and not shown to the plugin again.
    pub(crate) aside: Vec<u8>,
    /// The body that the plugin holds and sees, with the chunk of the running callback.
    pub(crate) body: Vec<u8>,
    pub(crate) held: Option<Held>,
    /// A callback of this direction is running or has not been acted upon.
    pub(crate) in_callback: bool,
    pub(crate) resumed: bool,
    pub(crate) visible: Visible,
    pub(crate) through: Option<Message>,
}

/// What of a direction host functions may look at now.
#[derive(Default)]
pub(crate) struct Visible {
    pub(crate) headers: bool,
    pub(crate) body: bool,
    pub(crate) trailers: bool,
}

/// The next thing to show to the plugin.
pub(crate) enum Part {
    Headers { end: bool },
    Body { bytes: Vec<u8>, end: bool },
    Trailers,
}

/// Which callback said stop, whether it was the last one, and what happens to what comes behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) stage: Stage,
    pub(crate) end: bool,
    /// The plugin is shown what comes behind all the same.
    pub(crate) shows_more: bool,
    /// It sees what it holds again, with what comes behind.
    pub(crate) buffers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Headers,
    Body,
    Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Complete,
    Reset,
    Disconnected,
}

#[derive(Default)]
pub(crate) struct StreamState {
    pub(crate) request: Flow,
    pub(crate) response: Flow,
    pub(crate) peer: String,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) set_properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) reply: Option<LocalReply>,
    /// A reply asked for in a request callback of this stream, sent once that returns.
    pub(crate) prepared: Option<LocalReply>,
    pub(crate) vm_failed: bool,
    pub(crate) logging: bool,
    pub(crate) end: Option<End>,
    pub(crate) sent_end: bool,
}

impl StreamState {
    pub(crate) fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }
}

impl Stream {
    /// How the request stands now.
    pub fn outcome(&self) -> Outcome {
        let state = self.cell.state.borrow();
        if state.vm_failed {
            return Outcome::VmFailed;
        }
        if let Some(reply) = &state.reply {
            return Outcome::LocalReply(reply.clone());
        }
        match (state.end, &state.request.through) {
            (Some(End::Reset), _) => Outcome::Reset,
            (Some(End::Disconnected), _) => Outcome::Disconnected,
            (_, Some(message)) => Outcome::Forwarded(message.clone()),
            _ => Outcome::Paused,
        }
    }

    /// What the client has received, `None` while it waits.
    pub fn response(&self) -> Option<Message> {
        self.cell.state.borrow().response.through.clone()
    }

    /// What the upstream has received, `None` while the request is held or where it was answered locally.
    pub fn upstream_request(&self) -> Option<Message> {
        self.cell.state.borrow().request.through.clone()
    }

    /// The status that the client received, 0 while it waits.
    pub fn status(&self) -> u16 {
        self.response().map_or(0, |response| response.status())
    }

    /// Whether the exchange is over.
    pub fn is_finished(&self) -> bool {
        self.cell.state.borrow().end.is_some()
    }

    /// A property that the plugin set (`proxy_set_property`): what an access log can show.
    pub fn set_property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let path = path.join("\0").into_bytes();
        self.cell.state.borrow().set_properties.get(&path).cloned()
    }

    /// Sends a piece of the body; `end` completes the request. Nothing happens after the end.
    pub fn send_body(&self, bytes: impl AsRef<[u8]>, end: bool) {
        let part = Part::Body { bytes: bytes.as_ref().to_vec(), end };
        self.send(part, end);
    }

    /// Sends trailers and with them the end of the request.
    pub fn send_trailers(&self, trailers: Headers) {
        self.cell.state.borrow_mut().request.trailers = trailers;
        self.send(Part::Trailers, true);
    }

    fn send(&self, part: Part, end: bool) {
        {
            let mut state = self.cell.state.borrow_mut();
            if state.sent_end {
                return;
            }
            state.sent_end = end;
            state.request.push(part);
        }
        self.run(Step::Flow(Rc::clone(&self.cell), Direction::Request));
    }

    /// The upstream answers. Needed where the host's upstream is [`Upstream::Manual`](crate::Upstream); ignored when the
    /// client already has an answer.
    pub fn respond(&self, response: Response) {
        self.run(Step::Respond(Rc::clone(&self.cell), response));
    }

    /// The client closes: `on_log`, `on_done` and `on_delete` run at once.
    pub fn disconnect(&self) {
        self.run(Step::Finish(Rc::clone(&self.cell), End::Disconnected));
    }

    /// The id of the stream's context in its VM, 0 where the VM was dead.
    pub fn context_id(&self) -> u32 {
        self.cell.context.get()
    }

    fn run(&self, step: Step) {
        let cell = &self.cell;
        self.host.inner.run(cell.thread, cell.vm.clone(), step);
    }
}

impl Flow {
    /// Queues a part; body pieces that nobody has looked at yet become one, as in a proxy's buffer.
    pub(crate) fn push(&mut self, part: Part) {
        if let (Part::Body { bytes, end }, Some(Part::Body { bytes: waiting, end: waiting_end })) =
            (&part, self.waiting.back_mut())
        {
            waiting.extend_from_slice(bytes);
            *waiting_end = *end;
            return;
        }
        self.waiting.push_back(part);
    }

    /// Fills an empty direction with a whole message; `open` leaves its end off.
    pub(crate) fn fill(&mut self, headers: Headers, body: Vec<u8>, trailers: Option<Headers>, open: bool) {
        let ends_with_headers = body.is_empty() && trailers.is_none() && !open;
        self.headers = headers;
        self.push(Part::Headers { end: ends_with_headers });
        if !body.is_empty() {
            let end = trailers.is_none() && !open;
            self.push(Part::Body { bytes: body, end });
        }
        if let Some(trailers) = trailers {
            self.trailers = trailers;
            self.push(Part::Trailers);
        }
    }
}

impl StreamCell {
    pub(crate) fn new(
        thread: Thread,
        vm: Option<Rc<Vm>>,
        root: Option<Rc<Root>>,
        plugin: Option<&Plugin>,
        request: Request,
    ) -> Rc<Self> {
        let mut state = StreamState {
            peer: request.peer,
            properties: request.properties.into_iter().collect(),
            sent_end: !request.open,
            ..StreamState::default()
        };
        state.request.fill(request.headers, request.body, request.trailers, request.open);
        Rc::new(Self {
            thread,
            vm,
            root,
            context: Cell::new(0),
            fails_open: plugin.is_some_and(|plugin| plugin.fail_policy == FailPolicy::Open),
            headers_may_stop_alone: plugin.is_some_and(|plugin| plugin.headers_may_stop_alone),
            state: RefCell::new(state),
        })
    }

    pub(crate) fn ended(&self) -> bool {
        self.state.borrow().end.is_some()
    }
}
