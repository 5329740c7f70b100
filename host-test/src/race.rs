//! Races on purpose: a test interrupts a worker just before a host call and lets other workers run meanwhile. An
//! interruption always ends before the interrupted call goes on, so what is explored are nested interleavings.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::host::{Host, Inner};
use crate::thread::Thread;

/// A host call that is about to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostCall {
    /// The thread whose plugin calls.
    pub thread: Thread,
    /// The import's name.
    pub function: &'static str,
}

/// Work for a worker in [`Host::run_interleaved`].
pub struct Job {
    worker: usize,
    work: Box<dyn FnOnce(&Host)>,
}

impl Job {
    /// What this worker is to do: usually one [`Host::request`] to it.
    pub fn new(worker: usize, work: impl FnOnce(&Host) + 'static) -> Self {
        Self { worker, work: Box::new(work) }
    }
}

type Watcher = Rc<dyn Fn(&Host, &HostCall)>;

#[derive(Default)]
pub(crate) struct Interruptions {
    once: RefCell<Vec<Interruption>>,
    watcher: RefCell<Option<Watcher>>,
}

struct Interruption {
    thread: Thread,
    function: String,
    calls_left: u32,
    run: Box<dyn FnOnce(&Host)>,
}

impl Host {
    /// Once, just before the `nth` (from 1) call of `function` by `thread` from now on, runs `interruption`, typically a
    /// request to another worker. A request to the interrupted thread waits until its callback is over.
    pub fn before_call(&self, thread: Thread, function: &str, nth: u32, interruption: impl FnOnce(&Host) + 'static) {
        let waiting =
            Interruption { thread, function: function.to_owned(), calls_left: nth.max(1), run: Box::new(interruption) };
        self.inner.interruptions.once.borrow_mut().push(waiting);
    }

    /// Runs `watcher` just before every host call, those made inside the watcher included, until
    /// [`Host::stop_watching`].
    pub fn watch_calls(&self, watcher: impl Fn(&Host, &HostCall) + 'static) {
        *self.inner.interruptions.watcher.borrow_mut() = Some(Rc::new(watcher));
    }

    /// Ends [`Host::watch_calls`].
    pub fn stop_watching(&self) {
        *self.inner.interruptions.watcher.borrow_mut() = None;
    }

    /// Runs all jobs, interrupting each at host calls chosen by `seed` to start others on workers that are idle. The
    /// same seed gives the same interleaving; each job runs once.
    pub fn run_interleaved(&self, seed: u64, jobs: Vec<Job>) {
        let schedule =
            Rc::new(Schedule { jobs: RefCell::new(jobs), state: Cell::new(seed), running: RefCell::default() });
        let watching = Rc::clone(&schedule);
        self.watch_calls(move |host, _| {
            // One in four keeps a fair chance that a callback's later calls are interrupted too.
            if watching.next().is_multiple_of(4) {
                watching.start_one(host);
            }
        });
        while schedule.start_one(self) {}
        self.stop_watching();
    }
}

struct Schedule {
    jobs: RefCell<Vec<Job>>,
    state: Cell<u64>,
    running: RefCell<BTreeSet<usize>>,
}

impl Schedule {
    fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.state.set(state);
        mixed(state)
    }

    /// Starts a job of an idle worker; false where there is none.
    fn start_one(&self, host: &Host) -> bool {
        let job = {
            let mut jobs = self.jobs.borrow_mut();
            let busy = host.inner.busy.borrow();
            let running = self.running.borrow();
            let idle: Vec<usize> = jobs
                .iter()
                .enumerate()
                .filter(|(_, job)| !running.contains(&job.worker) && !busy.contains(&Thread::Worker(job.worker)))
                .map(|(index, _)| index)
                .collect();
            let count = u64::try_from(idle.len()).unwrap_or(1);
            if idle.is_empty() {
                return false;
            }
            let chosen = usize::try_from(self.next() % count).unwrap_or(0);
            jobs.remove(idle[chosen])
        };
        self.running.borrow_mut().insert(job.worker);
        (job.work)(host);
        self.running.borrow_mut().remove(&job.worker);
        true
    }
}

impl Inner {
    /// Counts a host call and lets the test interrupt it.
    pub(crate) fn note_call(self: &Rc<Self>, thread: Thread, function: &'static str) {
        self.calls.borrow_mut().note(function);
        let due = {
            let mut once = self.interruptions.once.borrow_mut();
            let matching = once.iter_mut().filter(|waiting| waiting.thread == thread && waiting.function == function);
            for waiting in matching {
                waiting.calls_left -= 1;
            }
            let ready = |waiting: &mut Interruption| waiting.calls_left == 0;
            once.extract_if(.., ready).collect::<Vec<_>>()
        };
        let watcher = self.interruptions.watcher.borrow().clone();
        if due.is_empty() && watcher.is_none() {
            return;
        }
        let host = Host { inner: Rc::clone(self) };
        for interruption in due {
            (interruption.run)(&host);
        }
        if let Some(watcher) = watcher {
            watcher(&host, &HostCall { thread, function });
        }
    }
}

/// The output function of splitmix64 (Steele, Lea, Flood 2014): every bit depends on every bit of the state.
pub(crate) fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}
