//! The current set of connections as requests see it: they take one and tell what went wrong; the keeper acts, once,
//! however many told. While a broken set is replaced, callers wait for the first try and fail at once while later ones go on.
//! Not here: what the keeper does then (`keeper`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use redis::{ErrorKind, RedisError};
use tokio::sync::{Notify, watch};

use super::connection::Connection;
use super::keeper::Keeper;
use super::open::Opener;
use super::set::Set;
use crate::failure::is_read_only;
use crate::flags::Settings;
use crate::metrics::Metrics;
use crate::redis_url::Layout;

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    /// For logs; holds no credentials.
    pub(super) reason: String,
    /// Whether Redis turned the credentials down.
    pub(super) rejected: bool,
}

/// As an error of the library, for where both can happen.
impl From<Lost> for RedisError {
    fn from(lost: Lost) -> Self {
        (ErrorKind::Io, "no connection", lost.reason).into()
    }
}

#[derive(Clone)]
pub(super) enum Phase {
    /// The first try since the set broke is under way.
    Trying,
    /// The last try failed; the next follows.
    Down(Lost),
    /// In use.
    Up { generation: u64, set: Arc<Set> },
}

/// What requests and the keeper tell each other.
pub(super) struct Shared {
    pub(super) phase: watch::Sender<Phase>,
    /// Something is odd: somebody should look.
    pub(super) wake: Notify,
    /// What is odd is that the server refuses to write, however well it answers.
    pub(super) refused: AtomicBool,
}

impl Shared {
    /// The set in use.
    pub(super) fn set(&self) -> Option<Arc<Set>> {
        match &*self.phase.borrow() {
            Phase::Up { set, .. } => Some(Arc::clone(set)),
            _ => None,
        }
    }

    /// Comes back when there is no set in use.
    pub(super) async fn broken(&self) {
        let mut watching = self.phase.subscribe();
        // An error says that the sender is gone, which is ourselves.
        let _ = watching.wait_for(|phase| !matches!(phase, Phase::Up { .. })).await;
    }
}

/// Hands out connections and takes reports about them.
pub(super) struct Link {
    shared: Arc<Shared>,
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
        let shared = Arc::new(Shared { phase, wake: Notify::new(), refused: AtomicBool::new(false) });
        tokio::spawn(Keeper::new(opener, Arc::clone(&shared), metrics).keep());
        Ok(Self { shared, next: AtomicUsize::new(0), layout })
    }

    /// Waits for the end of the first try.
    pub(super) async fn first(&self) -> Result<(), Lost> {
        self.connection().await.map(|_| ())
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.shared.phase.borrow(), Phase::Up { .. })
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.layout == Kind::Cluster
    }

    /// A connection and the generation of its set. Waits while the first try since a loss is under way.
    pub(super) async fn connection(&self) -> Result<(u64, Connection), Lost> {
        if let Phase::Up { generation, set } = &*self.shared.phase.borrow() {
            return self.pick(*generation, set.connections());
        }
        let mut watching = self.shared.phase.subscribe();
        let found = watching.wait_for(|phase| !matches!(phase, Phase::Trying)).await.map(|phase| phase.clone());
        match found {
            Ok(Phase::Up { generation, set }) => self.pick(generation, set.connections()),
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
        if is_read_only(error) {
            return self.refused(generation);
        }
        let is_lost = error.is_unrecoverable_error();
        // In a Cluster the library mends its own connections; a fresh set is for when it cannot.
        if is_lost && !self.is_cluster() {
            self.breaks(generation);
            return true;
        }
        if is_lost || error.is_io_error() {
            self.doubt();
        }
        false
    }

    fn breaks(&self, generation: u64) {
        self.shared.phase.send_if_modified(|phase| match phase {
            Phase::Up { generation: current, .. } if *current == generation => {
                *phase = Phase::Trying;
                true
            }
            _ => false,
        });
        self.shared.wake.notify_one();
    }

    /// Tells that an answer did not come.
    pub(super) fn doubt(&self) {
        self.shared.wake.notify_one();
    }

    /// Tells that the server does not write. True where Sentinel can tell who does, so that asking again is worth it;
    /// elsewhere another one may by now be behind the same name.
    pub(super) fn refused(&self, generation: u64) -> bool {
        if self.layout == Kind::Sentinel {
            self.breaks(generation);
            return true;
        }
        self.shared.refused.store(true, Relaxed);
        self.shared.wake.notify_one();
        false
    }
}

/// Tells the link of a call that ends without an answer, be it that the time was up or that the caller left before.
pub(super) struct Unanswered<'a>(Option<&'a Link>);

impl<'a> Unanswered<'a> {
    pub(super) fn on(link: &'a Link) -> Self {
        Self(Some(link))
    }

    /// An answer came.
    pub(super) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.0 {
            link.doubt();
        }
    }
}

fn nothing() -> Lost {
    Lost { reason: "no connection".to_owned(), rejected: false }
}
