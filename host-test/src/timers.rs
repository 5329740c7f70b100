//! Letting time pass: ticks and callout timeouts fire in the order of their times, the clock standing at each one's
//! moment while its callback runs.

use std::rc::Rc;
use std::time::Duration;

use crate::callout::Answer;
use crate::clock::micros;
use crate::context::{StandsFor, Tick};
use crate::drive::Step;
use crate::host::Host;
use crate::thread::Thread;
use crate::vm::Vm;

/// Something that is due; the order of fields is the order in which equal times fire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: u64,
    thread: Thread,
    vm: usize,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Timeout(u32),
    Tick(u32),
}

impl Host {
    /// Lets time pass and fires what comes due in it. Callbacks take no time. Threads that are inside a callback (when
    /// called from [`Host::before_call`]) fire theirs with the next `advance`.
    pub fn advance(&self, duration: Duration) {
        let clock = &self.inner.clock;
        let target = clock.steady_micros().saturating_add(micros(duration));
        while let Some((vm, due)) = self.next_due(target) {
            clock.pass_until(due.at);
            let step = match due.what {
                What::Tick(context) => Step::Tick(context),
                What::Timeout(token) => Step::Answer { token, answer: Answer::Timeout },
            };
            self.inner.run(due.thread, Some(vm), step);
        }
        clock.pass_until(target);
    }

    fn next_due(&self, target: u64) -> Option<(Rc<Vm>, Due)> {
        let busy = self.inner.busy.borrow();
        let vms = self.inner.vms.borrow();
        vms.iter()
            .filter(|vm| !vm.state.failed() && !busy.contains(&vm.state.thread))
            .filter_map(|vm| Some((Rc::clone(vm), first_due(vm)?)))
            .filter(|(_, due)| due.at <= target)
            .min_by_key(|(_, due)| *due)
    }
}

fn first_due(vm: &Vm) -> Option<Due> {
    let due = |at, what| Due { at, thread: vm.state.thread, vm: vm.state.number, what };
    let contexts = vm.state.contexts.borrow();
    let roots = contexts.values().filter(|context| matches!(context.stands_for, StandsFor::Root));
    let ticks = roots.filter_map(|context| {
        let Tick { due: at, .. } = context.root.tick.get()?;
        Some(due(at, What::Tick(context.root.id)))
    });
    let callouts = vm.state.callouts.borrow();
    let timeouts = callouts.iter().filter_map(|(token, pending)| Some(due(pending.due?, What::Timeout(*token))));
    ticks.chain(timeouts).min()
}
