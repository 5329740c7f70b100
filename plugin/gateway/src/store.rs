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
use redis::{Cmd, Pipeline, RedisError, Value};

use crate::failure::{Failure, is_read_only, server_text};
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
/// How often parts of a batch are sent at most: as they came, to another master, and there in full.
const MOST_ROUNDS: usize = 3;

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
    /// that Redis had forgotten, and what a demoted master refused, runs after the others.
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
        self.bounded(async {
            let mut refused = false;
            loop {
                let (generation, replies) = match self.send_all(&pipeline, commands.len() + 1, 1).await {
                    Ok(replies) => replies,
                    // Nothing of it has run.
                    Err((true, error)) if is_read_only(&error) && !refused => {
                        refused = true;
                        continue;
                    }
                    Err((_, error)) => return Err(error.into()),
                };
                let values = match replies.into_iter().next() {
                    Some(Value::Array(values)) => values,
                    Some(Value::ServerError(error)) => return Err(Failure::Store(server_text(&error))),
                    _ => return Err(Failure::Unreachable),
                };
                // A script's refusal comes from inside; the others of its transaction, run by the same replica, wrote
                // nothing either.
                let is_refused = values.iter().any(is_refusal);
                if is_refused && self.link.refused(generation) && !refused {
                    refused = true;
                    continue;
                }
                return Ok(values.into_iter().map(outcome).collect());
            }
        })
        .await
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
        let mut outcomes: Vec<Outcome> = commands.iter().map(Prepared::answer).collect();
        let mut next: Vec<(usize, Cmd)> =
            commands.iter().enumerate().filter_map(|(at, command)| Some((at, command.first()?))).collect();
        // Once as they came; then what was not known there; and what a demoted master refused.
        for _ in 0..MOST_ROUNDS {
            if next.is_empty() {
                break;
            }
            let (places, round): (Vec<usize>, Vec<Cmd>) = next.into_iter().unzip();
            let (generation, values) = self.pipeline(round).await?;
            let will_move = values.iter().any(is_refusal) && self.link.refused(generation);
            next = Vec::new();
            for (at, value) in places.into_iter().zip(values) {
                let (Some(command), Some(slot)) = (commands.get(at), outcomes.get_mut(at)) else { continue };
                let is_refused = is_refusal(&value);
                *slot = outcome(value).map(|value| command.result(value));
                let again = match command.in_full().filter(|_| is_noscript(slot)) {
                    Some(in_full) => {
                        self.metrics.scripts_resent.fetch_add(1, Relaxed);
                        Some(in_full)
                    }
                    None if is_refused && will_move => command.in_full().or_else(|| command.first()),
                    None => None,
                };
                next.extend(again.map(|command| (at, command)));
            }
        }
        Ok(outcomes)
    }

    async fn pipeline(&self, commands: Vec<Cmd>) -> Result<(u64, Vec<Value>), Failure> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command);
        }
        self.send_all(&pipeline, 0, pipeline.len()).await.map_err(|(_, error)| error.into())
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

    /// The replies and the generation of the set that gave them; or the error, and whether another set will take over.
    async fn send_all(
        &self,
        pipeline: &Pipeline,
        skip: usize,
        count: usize,
    ) -> Result<(u64, Vec<Value>), (bool, RedisError)> {
        let (generation, mut connection) = self.link.connection().await.map_err(|lost| (false, lost.into()))?;
        self.metrics.commands.fetch_add(pipeline.len() as u64, Relaxed);
        match connection.send_all(pipeline, skip, count).await {
            Ok(values) => Ok((generation, values)),
            Err(error) => Err((self.link.report(generation, &error), error)),
        }
    }

    async fn connection(&self) -> Result<Using, Failure> {
        self.link.connection().await.map_err(|Lost { .. }| Failure::Unreachable)
    }
}

fn is_refusal(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "READONLY")
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
