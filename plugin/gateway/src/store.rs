//! Redis as the rest of the gateway sees it: one command, a batch or a transaction in, outcomes out, in bounded time.
//!
//! Calls of all requests share a few connections. The client library writes whatever is waiting with one system call, so
//! concurrent requests become one pipeline without any timer of ours, and hands replies out in the order of sending; a
//! caller that went away leaves its place behind, so no reply moves up to somebody else.
//! Not here: who may ask what (`guard`, `commands`); how connections come and go (`link`).

mod connection;
mod keeper;
mod link;
mod open;
mod prepared;
mod set;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, Value};

use crate::failure::{Failure, server_text};
use crate::flags::Settings;
use crate::metrics::Metrics;
use crate::reply::Outcome;
use crate::script_cache::ScriptCache;
use connection::Connection;
use link::{Link, Lost, Unanswered};
pub use prepared::{Prepared, prepare};

/// How many commands of one batch are under way at once in a Cluster, where each may go to another node. Up to 30,
/// `join_all` starts them in order, which keeps the order of commands with the same key.
const CLUSTER_BATCH: usize = 16;

/// A connection and the generation of its set.
type Using = (u64, Connection);

/// The way to Redis; shared by all requests of a thread.
pub struct Store {
    link: Link,
    /// The scripts that may be called; all threads share them.
    pub scripts: Arc<ScriptCache>,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Opens the first connections. A Redis that cannot be reached is no error: the gateway starts, answers 503 and goes
    /// on trying.
    ///
    /// # Errors
    /// Redis is there and rejects the credentials, or TLS or the URL cannot work.
    pub async fn connect(
        settings: &Settings,
        scripts: Arc<ScriptCache>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let link = Link::open(settings, Arc::clone(&metrics))?;
        match link.first().await {
            Ok(()) => tracing::info!(store = %settings.target, "connected"),
            Err(lost) if lost.rejected => return Err(format!("{}: {}", settings.target, lost.reason)),
            Err(lost) => tracing::warn!(store = %settings.target, reason = %lost.reason, "not reachable yet"),
        }
        Ok(Self { link, scripts, timeout: settings.timeout, metrics })
    }

    /// The process's numbers.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether there are connections now.
    pub fn is_connected(&self) -> bool {
        self.link.is_up()
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// `Unreachable`, `TimedOut` or what Redis says, such as LOADING.
    pub async fn ping(&self) -> Result<(), Failure> {
        self.bounded(self.send(&redis::cmd("PING"))).await.map(|_| ())
    }

    /// Runs one command.
    ///
    /// # Errors
    /// Redis's own error, or `Unreachable` or `TimedOut`; after the latter two the command may have been carried out.
    pub async fn one(&self, command: &Prepared<'_>) -> Outcome {
        self.bounded(self.one_on(None, command)).await
    }

    /// Runs commands in order, not atomically. In a Cluster the order holds for commands with the same slot only. A script
    /// that Redis had forgotten runs after the others.
    ///
    /// # Errors
    /// `Unreachable` or `TimedOut` for all of them; the error of one is in its outcome.
    pub async fn batch(&self, commands: &[Prepared<'_>]) -> Result<Vec<Outcome>, Failure> {
        self.bounded(async {
            if !self.link.is_cluster() {
                return self.batch_unbounded(commands).await;
            }
            // All on one connection: over several, a later command could overtake.
            let using = self.connection().await?;
            let mut outcomes = Vec::with_capacity(commands.len());
            for chunk in commands.chunks(CLUSTER_BATCH) {
                outcomes.extend(join_all(chunk.iter().map(|command| self.one_on(Some(&using), command))).await);
            }
            Ok(outcomes)
        })
        .await
    }

    /// Runs commands between MULTI and EXEC. Scripts are sent in full: a NOSCRIPT inside would break the atomicity.
    ///
    /// # Errors
    /// The transaction as a whole did not run, or nobody knows.
    pub async fn transaction(&self, commands: &[Prepared<'_>]) -> Result<Vec<Outcome>, Failure> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        pipeline.atomic();
        for command in commands {
            pipeline.add_command(command.in_transaction()?);
        }
        let replies = self.bounded(self.send_all(&pipeline, commands.len() + 1, 1)).await?;
        match replies.into_iter().next() {
            Some(Value::Array(values)) => {
                self.watch(&values);
                Ok(values.into_iter().map(outcome).collect())
            }
            Some(Value::ServerError(error)) => Err(Failure::Store(server_text(&error))),
            _ => Err(Failure::Unreachable),
        }
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let call = Unanswered::on(&self.link);
        // A caller that leaves drops this future here. Those of the filter leave long before our own time is up.
        let Ok(outcome) = tokio::time::timeout(self.timeout, work).await else { return Err(Failure::TimedOut) };
        call.answered();
        outcome
    }

    /// One command on the connection that is given, or on whichever is next.
    async fn one_on(&self, using: Option<&Using>, command: &Prepared<'_>) -> Outcome {
        let Some(first) = command.first() else { return command.answer() };
        let found = self.send_on(using, &first).await;
        match command.in_full().filter(|_| is_noscript(&found)) {
            Some(in_full) => {
                self.metrics.scripts_resent.fetch_add(1, Relaxed);
                self.send_on(using, &in_full).await
            }
            None => found.map(|value| command.result(value)),
        }
    }

    async fn batch_unbounded(&self, commands: &[Prepared<'_>]) -> Result<Vec<Outcome>, Failure> {
        let sent = self.pipeline(commands.iter().filter_map(Prepared::first)).await?;
        let mut sent = sent.into_iter();
        let mut outcomes: Vec<Outcome> = commands
            .iter()
            .map(|command| {
                if command.is_sent() {
                    sent.next().map_or(Err(Failure::Unreachable), outcome).map(|value| command.result(value))
                } else {
                    command.answer()
                }
            })
            .collect();
        let forgotten: Vec<usize> =
            (0..).zip(&outcomes).filter(|(_, found)| is_noscript(found)).map(|(at, _)| at).collect();
        let in_full = forgotten.iter().filter_map(|at| Some((*at, commands.get(*at)?.in_full()?)));
        let (places, again): (Vec<usize>, Vec<Cmd>) = in_full.unzip();
        self.metrics.scripts_resent.fetch_add(again.len() as u64, Relaxed);
        for (place, value) in places.into_iter().zip(self.pipeline(again.into_iter()).await?) {
            if let Some(slot) = outcomes.get_mut(place) {
                *slot = outcome(value);
            }
        }
        Ok(outcomes)
    }

    /// Sends commands as one pipeline; none is no call.
    async fn pipeline(&self, commands: impl Iterator<Item = Cmd>) -> Result<Vec<Value>, Failure> {
        let mut pipeline = Pipeline::new();
        commands.for_each(|command| {
            pipeline.add_command(command);
        });
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.send_all(&pipeline, 0, pipeline.len()).await?;
        self.watch(&values);
        Ok(values)
    }

    /// One command, and once more where a demoted master refused it: a READONLY has changed nothing.
    async fn send(&self, command: &Cmd) -> Outcome {
        let mut refused = false;
        loop {
            let (generation, mut connection) = self.connection().await?;
            self.metrics.commands.fetch_add(1, Relaxed);
            match connection.send(command).await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    let will_move = self.link.report(generation, &error);
                    if error.code() == Some("READONLY") && will_move && !refused {
                        refused = true;
                        continue;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    async fn send_on(&self, using: Option<&Using>, command: &Cmd) -> Outcome {
        let Some((generation, connection)) = using else { return self.send(command).await };
        self.metrics.commands.fetch_add(1, Relaxed);
        connection.clone().send(command).await.map_err(|error| {
            self.link.report(*generation, &error);
            error.into()
        })
    }

    async fn send_all(&self, pipeline: &Pipeline, skip: usize, count: usize) -> Result<Vec<Value>, Failure> {
        let (generation, mut connection) = self.connection().await?;
        self.metrics.commands.fetch_add(pipeline.len() as u64, Relaxed);
        connection.send_all(pipeline, skip, count).await.map_err(|error| {
            self.link.report(generation, &error);
            error.into()
        })
    }

    async fn connection(&self) -> Result<Using, Failure> {
        self.link.connection().await.map_err(|Lost { .. }| Failure::Unreachable)
    }

    /// Errors inside a batch can say, too, that this is no longer the master.
    fn watch(&self, values: &[Value]) {
        if values.iter().any(|value| matches!(value, Value::ServerError(error) if error.code() == "READONLY")) {
            self.link.refused();
        }
    }
}

fn outcome(value: Value) -> Outcome {
    match value {
        Value::ServerError(error) => Err(Failure::Store(server_text(&error))),
        value => Ok(value),
    }
}

fn is_noscript(outcome: &Outcome) -> bool {
    matches!(outcome, Err(Failure::Store(text)) if text.starts_with("NOSCRIPT"))
}
