//! Threads that share next to nothing: each has its own event loop, connections to Redis and share of the callers.
//!
//! A request stays on one thread from its first byte to its answer, so no core wakes another: measured, that takes a third
//! less processor time a decision than one pool of threads. Shared are the settings, the script cache, the metrics and
//! the bounds on what is in flight. Not here: accepting (`listen`).

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};

use crate::flags::Settings;
use crate::listen::{self, Arrival};
use crate::metrics::Metrics;
use crate::routes::{Gateway, router};
use crate::script_cache::ScriptCache;
use crate::store::Store;

/// All serving threads.
pub struct Threads {
    doors: Vec<UnboundedSender<Arrival>>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them, and waits until each has tried to reach Redis.
    ///
    /// # Errors
    /// A thread cannot be started, or Redis rejects the credentials.
    pub async fn start(settings: &Arc<Settings>) -> Result<Self, String> {
        let scripts = Arc::new(ScriptCache::new(settings.commands.takes_any_script()));
        let metrics = Arc::new(Metrics::default());
        let places = Arc::new(Semaphore::new(settings.max_in_flight));
        let room = Arc::new(Semaphore::new(settings.max_body_memory));
        let mut threads = Self { doors: Vec::new(), handles: Vec::new() };
        let mut ready = Vec::new();
        for number in 0..settings.threads {
            let (door, arrivals) = unbounded_channel();
            let (tell, told) = oneshot::channel();
            let thread = Thread {
                runtime: event_loop()?,
                settings: Arc::clone(settings),
                scripts: Arc::clone(&scripts),
                metrics: Arc::clone(&metrics),
                places: Arc::clone(&places),
                room: Arc::clone(&room),
            };
            let handle = std::thread::Builder::new()
                .name(format!("gateway-{number}"))
                .spawn(move || thread.run(arrivals, tell))
                .map_err(|error| format!("cannot start a thread: {error}"))?;
            threads.doors.push(door);
            threads.handles.push(handle);
            ready.push(told);
        }
        for told in ready {
            told.await.map_err(|_| "a thread ended while starting".to_owned())??;
        }
        Ok(threads)
    }

    /// Where each takes its connections.
    pub fn doors(&self) -> &[UnboundedSender<Arrival>] {
        &self.doors
    }

    /// Lets them finish what is in flight and waits for their end.
    pub fn finish(self) {
        drop(self.doors);
        for handle in self.handles {
            // A panic would have ended the process: the release profile aborts.
            let _ = handle.join();
        }
    }
}

/// An event loop that runs on the thread that waits for it.
///
/// # Errors
/// The system gives no more of what it needs.
pub fn event_loop() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|error| format!("cannot start an event loop: {error}"))
}

struct Thread {
    runtime: Runtime,
    settings: Arc<Settings>,
    scripts: Arc<ScriptCache>,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

impl Thread {
    fn run(self, arrivals: UnboundedReceiver<Arrival>, tell: oneshot::Sender<Result<(), String>>) {
        let Self { runtime, settings, scripts, metrics, places, room } = self;
        runtime.block_on(async move {
            let store = match Store::connect(&settings, scripts, metrics).await {
                Ok(store) => store,
                Err(error) => {
                    // Nobody listens where another thread failed first.
                    let _ = tell.send(Err(error));
                    return;
                }
            };
            let _ = tell.send(Ok(()));
            let gateway = Arc::new(Gateway::new(Arc::clone(&settings), store, places, room));
            listen::serve(arrivals, &settings, router(gateway)).await;
        });
    }
}
