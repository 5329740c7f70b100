//! The one task that opens sets of connections and replaces them.
//!
//! A *broken* set is replaced before anybody gets a connection again. A *doubted* one, since a caller went without an answer,
//! is asked for a sign of life. Where that comes, nothing changes, so callers that are merely impatient cost a PING now and
//! then. Where it does not come soon, a new set is opened beside the old one, again and again, until either of them answers:
//! a Redis that merely hung goes on with the old set; where the master moved, or the network swallowed the connection, the new
//! one takes over. Not here: how a connection is opened (`open`), and who doubts (`link`).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::{RedisError, RedisResult};
use tokio::time::{Instant, sleep, sleep_until};

use super::link::{Lost, Phase, Shared};
use super::open::Opener;
use super::set::Set;
use crate::failure::is_rejection;
use crate::metrics::Metrics;

/// Pause between tries while Redis is gone: recovery follows its return by at most this and a connect.
const RETRY: Duration = Duration::from_millis(100);
/// Pause after a rejected password: only an operator changes that, and Redis logs every try.
const RETRY_REJECTED: Duration = Duration::from_secs(1);
/// How long a doubted set may take for a sign of life before a new one is opened beside it. Slow commands and forks take
/// less; so long a wait costs little beside the second or more in which a master is missed at all.
const PATIENCE: Duration = Duration::from_millis(100);
/// Least time between two looks at a doubted set, where a Sentinel can tell that the master moved.
const LOOK_SENTINEL: Duration = Duration::from_millis(250);
/// The same where there is nobody to ask: a hung server would only get more connections.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps the phase true.
pub(super) struct Keeper {
    opener: Opener,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    pause: Duration,
    generation: u64,
    /// Whether the set in use was asked and did not answer; for logs, and to go on looking without being told.
    silent: bool,
}

impl Keeper {
    pub(super) fn new(opener: Opener, shared: Arc<Shared>, metrics: Arc<Metrics>) -> Self {
        let pause = if opener.asks_sentinels() { LOOK_SENTINEL } else { LOOK };
        Self { opener, shared, metrics, pause, generation: 0, silent: false }
    }

    pub(super) async fn keep(mut self) {
        loop {
            let started = Instant::now();
            // What is told from here on may be about what this look does not see.
            let _ = self.shared.wake.notified().now_or_never();
            let refused = self.shared.refused.swap(false, Relaxed);
            let opened = self.look(refused).await;
            match (opened, self.shared.set()) {
                (None, Some(_)) => self.answered(),
                // It broke while it was asked.
                (None, None) => continue,
                (Some(Ok(set)), None) => self.take(set),
                (Some(Ok(set)), Some(old)) if refused || set.improves_on(&old) => self.take(set),
                (Some(Ok(_)), Some(_)) => self.is_silent("part of the Cluster does not answer"),
                (Some(Err(error)), Some(_)) => self.is_silent(&error.to_string()),
                (Some(Err(error)), None) => {
                    sleep(self.down(&error)).await;
                    continue;
                }
            }
            if !self.silent {
                self.shared.wake.notified().await;
            }
            tokio::select! {
                () = sleep_until(started + self.pause) => {}
                () = self.shared.broken() => {}
            }
        }
    }

    /// A new set or why there is none; nothing where the one in use answers first.
    async fn look(&self, refused: bool) -> Option<RedisResult<Set>> {
        let opened = match self.shared.set() {
            // What refuses to write answers well.
            Some(set) if !refused => {
                let patience = if self.silent { Duration::ZERO } else { PATIENCE };
                let opening = async {
                    sleep(patience).await;
                    self.opener.open().await
                };
                tokio::select! {
                    () = set.answers() => return None,
                    opened = opening => opened,
                }
            }
            _ => self.opener.open().await,
        };
        let counter = if opened.is_ok() { &self.metrics.connects } else { &self.metrics.failed_connects };
        counter.fetch_add(1, Relaxed);
        Some(opened)
    }

    fn take(&mut self, set: Set) {
        self.generation += 1;
        let generation = self.generation;
        let is_news = self.silent || self.shared.set().is_none();
        self.shared.phase.send_replace(Phase::Up { generation, set: Arc::new(set) });
        self.silent = false;
        if is_news && generation > 1 {
            tracing::info!(generation, "connected again");
        } else {
            tracing::debug!(generation, "connections replaced");
        }
    }

    fn answered(&mut self) {
        if self.silent {
            tracing::info!("Redis answers again");
        }
        self.silent = false;
    }

    fn is_silent(&mut self, reason: &str) {
        if !self.silent {
            tracing::warn!(reason, "Redis does not answer; looking for another connection");
        }
        self.silent = true;
    }

    /// Lets the callers know, logs a change, and says how long to wait.
    fn down(&mut self, error: &RedisError) -> Duration {
        let lost = Lost { reason: error.to_string(), rejected: is_rejection(error) };
        let pause = if lost.rejected { RETRY_REJECTED } else { RETRY };
        let is_news = !matches!(&*self.shared.phase.borrow(), Phase::Down(before) if before.reason == lost.reason);
        if is_news {
            tracing::warn!(reason = %lost.reason, "Redis cannot be reached; trying again");
        }
        self.silent = false;
        self.shared.phase.send_replace(Phase::Down(lost));
        pause
    }
}
