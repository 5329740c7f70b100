//! The order in which things happen on a thread: a step, then what the plugin asked for in it, nested, then the step's
//! own consequences. It is Envoy's recursion written as a stack of frames, so that its depth can be counted and its
//! death reproduced without using up the test's own stack.

mod ending;
mod events;
mod flow;
mod reply;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::callout::Answer;
use crate::connection::{ConnectionCell, ConnectionEvent};
use crate::host::Inner;
use crate::message::Response;
use crate::stream::{Direction, End, LocalReply, Stage, StreamCell};
use crate::thread::Thread;
use crate::vm::{Called, Vm};

/// One thing to do on a thread.
pub(crate) enum Step {
    /// Only carries out what is already asked for.
    Settle,
    Begin(Rc<StreamCell>),
    Flow(Rc<StreamCell>, Direction),
    Apply(Rc<StreamCell>, Direction, Verdict),
    Resume(Rc<StreamCell>, Direction),
    Reply(Rc<StreamCell>, LocalReply),
    Respond(Rc<StreamCell>, Response),
    Finish(Rc<StreamCell>, End),
    Done(Rc<StreamCell>),
    Delete(Rc<StreamCell>),
    Tick(u32),
    QueueReady {
        context: u32,
        token: u32,
    },
    Answer {
        token: u32,
        answer: Answer,
    },
    AnswerSeen(u32),
    Connection(Rc<ConnectionCell>, ConnectionEvent),
    RootDone(u32),
    RootDelete(u32),
}

/// What a stream callback said, with the callback it was.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) stage: Stage,
    /// Whether it was the last callback of its direction.
    pub(crate) end: bool,
    pub(crate) said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Continue,
    Stop(Stop),
    /// The VM is dead.
    Nothing,
}

/// Ways to stop a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing more of it is shown until it is resumed: `StopAllIterationAndWatermark`, and stopped trailers.
    All,
    /// Only the headers stop; the body is shown: `StopIteration`.
    Headers,
    /// The body is kept, and shown from its start with the next piece: `StopIterationAndBuffer`.
    Buffer,
    /// The body is kept; the next piece is shown alone: `StopIterationAndWatermark`.
    Watermark,
    /// The piece is thrown away: `StopIterationNoBuffer`.
    Drop,
}

/// Work for a thread that was busy, or that is posted to its event loop.
pub(crate) struct Posted {
    thread: Thread,
    vm: Option<Rc<Vm>>,
    step: Step,
}

impl Inner {
    /// Runs a step with all that follows from it; on a thread that is inside a callback it waits until that is over.
    pub(crate) fn run(self: &Rc<Self>, thread: Thread, vm: Option<Rc<Vm>>, step: Step) {
        if self.busy.borrow().contains(&thread) {
            return self.post(thread, vm, step);
        }
        self.busy.borrow_mut().insert(thread);
        let mut drive = Drive {
            host: Rc::clone(self),
            vm,
            frames: vec![VecDeque::from([step])],
            settle: Cell::new(false),
            stopped: Cell::new(false),
        };
        drive.run();
        self.busy.borrow_mut().remove(&thread);
        self.run_posted();
    }

    pub(crate) fn post(&self, thread: Thread, vm: Option<Rc<Vm>>, step: Step) {
        let posted = Posted { thread, vm, step };
        self.posted.borrow_mut().push_back(posted);
    }

    /// Runs what was posted, once no thread is inside a callback any more.
    pub(crate) fn run_posted(self: &Rc<Self>) {
        if !self.busy.borrow().is_empty() || self.draining.replace(true) {
            return;
        }
        loop {
            let next = self.posted.borrow_mut().pop_front();
            let Some(Posted { thread, vm, step }) = next else {
                break;
            };
            self.run(thread, vm, step);
        }
        self.draining.set(false);
    }
}

pub(crate) struct Drive {
    host: Rc<Inner>,
    vm: Option<Rc<Vm>>,
    frames: Vec<VecDeque<Step>>,
    /// A callback has just returned, or an action of it is over: the next action in line comes first.
    settle: Cell<bool>,
    /// The last callback sent a local reply, which makes its `Continue` a stop.
    stopped: Cell<bool>,
}

impl Drive {
    fn run(&mut self) {
        while !self.frames.is_empty() {
            if self.settle.replace(false)
                && let Some(action) = self.next_action()
            {
                self.frames.push(VecDeque::from([action]));
            }
            if let Some(step) = self.frames.last_mut().and_then(VecDeque::pop_front) {
                self.take(step);
            } else {
                self.frames.pop();
                self.settle.set(true);
            }
        }
    }

    fn next_action(&self) -> Option<Step> {
        let vm = self.vm.as_ref()?;
        vm.state.actions.borrow_mut().pop_front()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Settle => self.settle.set(true),
            Step::Begin(cell) => self.begin(cell),
            Step::Flow(cell, direction) => self.flow(cell, direction),
            Step::Apply(cell, direction, verdict) => self.apply(&cell, direction, verdict),
            Step::Resume(cell, direction) => self.resume(&cell, direction),
            Step::Reply(cell, reply) => self.reply(&cell, reply),
            Step::Respond(cell, response) => self.respond(cell, response),
            Step::Finish(cell, end) => self.finish(cell, end),
            Step::Done(cell) => self.done(cell),
            Step::Delete(cell) => self.delete(&cell),
            Step::Tick(context) => self.tick(context),
            Step::QueueReady { context, token } => self.queue_ready(context, token),
            Step::Answer { token, answer } => self.answer(token, answer),
            Step::AnswerSeen(context) => self.answer_seen(context),
            Step::Connection(cell, event) => self.connection(&cell, &event),
            Step::RootDone(context) => self.root_done(context),
            Step::RootDelete(context) => self.root_delete(context),
        }
    }

    /// Does these next, before what is already in this frame.
    fn follow(&mut self, steps: impl IntoIterator<Item = Step, IntoIter: DoubleEndedIterator>) {
        if let Some(frame) = self.frames.last_mut() {
            for step in steps.into_iter().rev() {
                frame.push_front(step);
            }
        }
    }

    /// Calls into the VM. Nested deeper than the limit, the VM dies as V8 dies of a full stack.
    fn call(&self, context: u32, export: &str, arguments: &[u32]) -> Called {
        let Some(vm) = &self.vm else {
            return Called::Failed;
        };
        let nested = self.frames.len() - 1;
        if nested > self.host.settings.nesting_limit && !vm.state.failed() {
            vm.state.fail(format!(
                "{export} failed: RangeError: Maximum call stack size exceeded ({nested} resumes or replies nested in one callback)"
            ));
        }
        self.host.note_nesting(nested);
        let called = vm.call(context, export, arguments);
        self.stopped.set(vm.state.stop_next.replace(false));
        if called != Called::Missing {
            self.settle.set(true);
        }
        called
    }
}
