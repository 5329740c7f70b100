//! One shared connection: to a single server or to all nodes of a Cluster, behind the same two calls.
//! Not here: opening it (`open`), or deciding that it is lost (`link`).

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

/// A connection that any number of requests use at once; a clone is the same connection.
#[derive(Clone)]
pub(super) enum Connection {
    /// One server: standalone, or the master that Sentinel names.
    Single(MultiplexedConnection),
    /// A Cluster: the library routes by key, follows MOVED and tries again.
    Cluster(ClusterConnection),
}

impl Connection {
    /// One command. An error that Redis answers is an `Err`; errors inside an array stay there.
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let value = match self {
            Self::Single(connection) => connection.send_packed_command(command).await?,
            Self::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        match value {
            Value::ServerError(error) => Err(error.into()),
            value => Ok(value),
        }
    }

    /// Several commands as one write. The first `skip` replies are dropped and the next `count` given back, errors that
    /// Redis answers among them.
    pub(super) async fn send_all(&mut self, all: &Pipeline, skip: usize, count: usize) -> RedisResult<Vec<Value>> {
        match self {
            Self::Single(connection) => connection.send_packed_commands(all, skip, count).await,
            Self::Cluster(connection) => connection.req_packed_commands(all, skip, count).await,
        }
    }
}
