//! Connections that are used together: whether the servers behind them answer, and which of two sets is to be preferred.
//! Not here: opening one (`open`), and what follows from the answers (`keeper`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{ErrorKind, RedisResult, Value};
use tokio::time::timeout;

use super::connection::Connection;
use crate::failure::is_rejection;

/// Longest wait for the masters of a Cluster that has just been opened: one that hangs shall not hide the others for long.
const MASTERS_TIMEOUT: Duration = Duration::from_millis(500);

/// What a server must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Whatever the URL names.
    Any,
    /// What Sentinel says it is, by its own word too.
    Master,
}

/// Connections to the same server or Cluster.
pub(super) struct Set {
    connections: Arc<[Connection]>,
    role: Role,
    /// The masters of a Cluster that answered when the set was opened; none elsewhere.
    masters: BTreeSet<String>,
}

impl Set {
    /// Connections to one server that have been greeted.
    pub(super) fn of_server(connections: Vec<Connection>, role: Role) -> Self {
        Self { connections: connections.into(), role, masters: BTreeSet::new() }
    }

    /// Connections to a Cluster.
    pub(super) async fn of_cluster(connections: Vec<ClusterConnection>) -> Self {
        let masters = match connections.first() {
            Some(first) => timeout(MASTERS_TIMEOUT, masters(first.clone())).await.ok().and_then(Result::ok),
            None => None,
        };
        let connections = connections.into_iter().map(Connection::Cluster).collect();
        Self { connections, role: Role::Any, masters: masters.unwrap_or_default() }
    }

    pub(super) fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// Comes back once every connection has brought an answer, and never where one cannot.
    pub(super) async fn answers(&self) {
        let asked = self.connections.iter().map(|connection| greet(connection.clone(), self.role));
        if !join_all(asked).await.iter().all(Result::is_ok) {
            std::future::pending::<()>().await;
        }
    }

    /// Whether to use this set, just opened, instead of `other`, which does not answer. Not where fewer masters of a Cluster
    /// are reached and no new one: the library would look for the missing one at each request for its slots, and callers of
    /// all others would wait for that.
    pub(super) fn improves_on(&self, other: &Self) -> bool {
        self.masters.len() >= other.masters.len() || !self.masters.is_subset(&other.masters)
    }
}

/// Makes sure that somebody is there and takes us for who we are: AUTH alone, without a password, asks nothing.
///
/// # Errors
/// No answer, a rejection, or a server that does not have the role. Any other error of Redis is an answer: LOADING passes,
/// and a user that may not ask is believed to be where it should be.
pub(super) async fn greet(mut connection: Connection, role: Role) -> RedisResult<()> {
    let question = redis::cmd(if role == Role::Master { "ROLE" } else { "PING" });
    match connection.send(&question).await {
        Ok(answer) if role == Role::Master && !is_master(&answer) => {
            Err((ErrorKind::Io, "the server that Sentinel names is no master").into())
        }
        Ok(_) => Ok(()),
        Err(error) if error.code().is_some() && !is_rejection(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_master(answer: &Value) -> bool {
    match answer {
        Value::Array(role) => matches!(role.first(), Some(Value::BulkString(name)) if name == b"master"),
        _ => false,
    }
}

/// The masters that the library has connections to, each of which must answer.
async fn masters(mut cluster: ClusterConnection) -> RedisResult<BTreeSet<String>> {
    let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
    match cluster.route_command(redis::cmd("PING"), all).await? {
        Value::Map(answers) => answers.into_iter().map(|(address, _)| Ok(redis::from_redis_value(address)?)).collect(),
        _ => Ok(BTreeSet::new()),
    }
}
