//! The current set of connections, and the one task that replaces it.
//!
//! Requests tell what went wrong; the keeper acts, once, however many told. A *broken* set is replaced before anybody gets a
//! connection again: callers wait for the first try and fail at once while later ones go on. A *doubted* set (a timeout, a
//! READONLY inside a batch) stays in use while a new one is opened beside it: where Redis merely hung, nothing changes; where
//! the master moved or the network swallowed the connection, the new set takes over.
//! Not here: how a connection is opened (`open`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::{RedisError, ServerErrorKind};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::Connection;
use super::open::Opener;
use crate::failure::is_rejection;
use crate::flags::Settings;
use crate::metrics::Metrics;
use crate::redis_url::Layout;

/// Pause between tries while Redis is gone: recovery follows its return by at most this and a connect.
const RETRY: Duration = Duration::from_millis(100);
/// Pause after a rejected password: only an operator changes that, and Redis logs every try.
const RETRY_REJECTED: Duration = Duration::from_secs(1);
/// Least time between two looks at a doubted set, where a Sentinel can tell that the master moved.
const LOOK_SENTINEL: Duration = Duration::from_millis(250);
/// The same where there is nobody to ask: a hung server would only get more connections.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    /// For logs; holds no credentials.
    pub(super) reason: String,
    /// Whether Redis turned the credentials down.
    pub(super) rejected: bool,
}

#[derive(Clone)]
enum Phase {
    /// The first try since the set broke is under way.
    Trying,
    /// The last try failed; the next follows.
    Down(Lost),
    /// In use.
    Up { generation: u64, connections: Arc<[Connection]> },
}

/// Hands out connections and takes reports about them.
pub(super) struct Link {
    phase: watch::Sender<Phase>,
    wake: Arc<Notify>,
    next: AtomicUsize,
    layout: Kind,
}

/// What the answers to trouble depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

impl Link {
    /// Starts the keeper, which opens the first set.
    ///
    /// # Errors
    /// TLS files or addresses that can never work.
    pub(super) fn open(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let opener = Opener::new(settings);
        opener.check().map_err(|error| format!("{}: {error}", settings.target))?;
        let layout = match settings.target.layout {
            Layout::Single(_) => Kind::Single,
            Layout::Sentinel { .. } => Kind::Sentinel,
            Layout::Cluster(_) => Kind::Cluster,
        };
        let (phase, _) = watch::channel(Phase::Trying);
        let wake = Arc::new(Notify::new());
        let keeper = Keeper { opener, phase: phase.clone(), wake: Arc::clone(&wake), metrics, layout };
        tokio::spawn(keeper.keep());
        Ok(Self { phase, wake, next: AtomicUsize::new(0), layout })
    }

    /// Waits for the end of the first try.
    pub(super) async fn first(&self) -> Result<(), Lost> {
        self.connection().await.map(|_| ())
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Up { .. })
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.layout == Kind::Cluster
    }

    /// A connection and the generation of its set. Waits while the first try since a loss is under way.
    pub(super) async fn connection(&self) -> Result<(u64, Connection), Lost> {
        if let Phase::Up { generation, connections } = &*self.phase.borrow() {
            return self.pick(*generation, connections);
        }
        let mut watching = self.phase.subscribe();
        let found = watching.wait_for(|phase| !matches!(phase, Phase::Trying)).await.map(|phase| phase.clone());
        match found {
            Ok(Phase::Up { generation, connections }) => self.pick(generation, &connections),
            Ok(Phase::Down(lost)) => Err(lost),
            Ok(Phase::Trying) | Err(_) => Err(nothing()),
        }
    }

    fn pick(&self, generation: u64, connections: &[Connection]) -> Result<(u64, Connection), Lost> {
        let turn = self.next.fetch_add(1, Relaxed).checked_rem(connections.len()).unwrap_or(0);
        connections.get(turn).map(|connection| (generation, connection.clone())).ok_or_else(nothing)
    }

    /// Tells of an error on a connection of this generation. True where another set will take over, so that asking again
    /// is worth it.
    pub(super) fn report(&self, generation: u64, error: &RedisError) -> bool {
        let read_only = error.kind() == ServerErrorKind::ReadOnly.into();
        let broken = match self.layout {
            Kind::Single => error.is_unrecoverable_error(),
            Kind::Sentinel => error.is_unrecoverable_error() || read_only,
            // The library mends its own connections; a fresh set is for when it cannot.
            Kind::Cluster => false,
        };
        if broken {
            self.phase.send_if_modified(|phase| match phase {
                Phase::Up { generation: current, .. } if *current == generation => {
                    *phase = Phase::Trying;
                    true
                }
                _ => false,
            });
            self.wake.notify_one();
        } else if read_only || error.is_io_error() || error.is_unrecoverable_error() {
            self.doubt();
        }
        broken
    }

    /// Tells that something is odd: a timeout, say.
    pub(super) fn doubt(&self) {
        self.wake.notify_one();
    }
}

fn nothing() -> Lost {
    Lost { reason: "no connection".to_owned(), rejected: false }
}

/// The one task that opens sets.
struct Keeper {
    opener: Opener,
    phase: watch::Sender<Phase>,
    wake: Arc<Notify>,
    metrics: Arc<Metrics>,
    layout: Kind,
}

impl Keeper {
    async fn keep(self) {
        let mut generation = 0;
        loop {
            let started = Instant::now();
            match self.opener.open().await {
                Ok(connections) => {
                    generation += 1;
                    self.metrics.connects.fetch_add(1, Relaxed);
                    let was_up = self.is_up();
                    self.phase.send_replace(Phase::Up { generation, connections: connections.into() });
                    if generation > 1 {
                        tracing::info!(generation, replaced = was_up, "connected again");
                    }
                }
                Err(error) => {
                    self.metrics.failed_connects.fetch_add(1, Relaxed);
                    if !self.is_up() {
                        sleep(self.down(&error)).await;
                        continue;
                    }
                    tracing::debug!(reason = %error, "looked for a better connection, found none");
                }
            }
            // What was told so far is about the set before this one.
            let _ = self.wake.notified().now_or_never();
            if self.is_up() {
                self.wake.notified().await;
            }
            if self.is_up() {
                let pause = if self.layout == Kind::Sentinel { LOOK_SENTINEL } else { LOOK };
                tokio::select! {
                    () = sleep_until(started + pause) => {}
                    () = self.broken() => {}
                }
            }
        }
    }

    fn is_up(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Up { .. })
    }

    /// Comes back when the set that is in use breaks.
    async fn broken(&self) {
        let mut watching = self.phase.subscribe();
        // An error says that the sender is gone, which is ourselves.
        let _ = watching.wait_for(|phase| !matches!(phase, Phase::Up { .. })).await;
    }

    /// Lets the callers know, logs a change, and says how long to wait.
    fn down(&self, error: &RedisError) -> Duration {
        let lost = Lost { reason: error.to_string(), rejected: is_rejection(error) };
        let pause = if lost.rejected { RETRY_REJECTED } else { RETRY };
        let news = !matches!(&*self.phase.borrow(), Phase::Down(before) if before.reason == lost.reason);
        if news {
            tracing::warn!(reason = %lost.reason, "Redis cannot be reached; trying again");
        }
        self.phase.send_replace(Phase::Down(lost));
        pause
    }
}
