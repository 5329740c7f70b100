//! Opening connections: to one server, to the master that Sentinels name, to a Cluster.
//! Not here: when to do so again (`link`).

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
};
use tokio::time::timeout;

use super::connection::Connection;
use super::set::{Role, Set, greet};
use crate::failure::is_rejection;
use crate::flags::Settings;
use crate::redis_url::{Address, Credentials, Layout, Target};

/// Longest wait for a connection, its TLS handshake, its AUTH and a first answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a node of a Cluster: one that hangs must not hold up the look at the others.
const NODE_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for one Sentinel's answer; the others are asked at the same time.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(500);
/// Commands that may wait for their turn to be written, a connection: more callers than this queue in front of it.
const WRITE_QUEUE: usize = 1_024;

/// What is needed to open connections, again and again.
pub(super) struct Opener {
    target: Target,
    certificates: TlsCertificates,
    connections: usize,
    timeout: Duration,
}

impl Opener {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            target: settings.target.clone(),
            certificates: settings.store_tls.certificates(),
            connections: settings.connections,
            timeout: settings.timeout,
        }
    }

    /// Checks, without the network, that clients can be made.
    pub(super) fn check(&self) -> RedisResult<()> {
        match &self.target.layout {
            Layout::Single(address) => self.client(address, &self.target.credentials).map(|_| ()),
            Layout::Sentinel { sentinels, .. } => sentinels
                .iter()
                .try_for_each(|address| self.client(address, &self.target.sentinel_credentials).map(|_| ())),
            Layout::Cluster(nodes) => self.cluster_client(nodes).map(|_| ()),
        }
    }

    /// Whether somebody can be asked where the master is.
    pub(super) fn asks_sentinels(&self) -> bool {
        matches!(self.target.layout, Layout::Sentinel { .. })
    }

    /// A full set of connections, all to the same server or Cluster.
    ///
    /// # Errors
    /// The first connection that could not be opened, or on which nobody answers; then none is kept.
    pub(super) async fn open(&self) -> RedisResult<Set> {
        match &self.target.layout {
            Layout::Single(address) => {
                self.to_server(&self.client(address, &self.target.credentials)?, Role::Any).await
            }
            Layout::Sentinel { sentinels, master } => self.to_master(sentinels, master).await,
            Layout::Cluster(nodes) => match self.to_cluster(nodes).await {
                Ok(set) => Ok(set),
                Err(error) => Err(self.rejection(nodes).await.unwrap_or(error)),
            },
        }
    }

    async fn to_cluster(&self, nodes: &[Address]) -> RedisResult<Set> {
        let client = self.cluster_client(nodes)?;
        let opening = (0..self.connections).map(|_| client.get_async_connection());
        let connections = join_all(opening).await.into_iter().collect::<RedisResult<Vec<_>>>()?;
        Ok(Set::of_cluster(connections).await)
    }

    /// What a node says where it turns our credentials down: the library has only a text for that.
    async fn rejection(&self, nodes: &[Address]) -> Option<RedisError> {
        let asking = nodes.iter().map(|node| async {
            let client = self.client(node, &self.target.credentials)?;
            timeout(NODE_TIMEOUT, to_one(&client, Role::Any)).await.map_err(|_| timed_out())?
        });
        join_all(asking).await.into_iter().filter_map(Result::err).find(is_rejection)
    }

    async fn to_server(&self, client: &Client, role: Role) -> RedisResult<Set> {
        let opening = join_all((0..self.connections).map(|_| to_one(client, role)));
        let opened = timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| timed_out())?;
        Ok(Set::of_server(opened.into_iter().collect::<RedisResult<Vec<_>>>()?, role))
    }

    /// Asks all Sentinels, and takes the address most of them name, if the server there agrees that it is the master. So a
    /// Sentinel that was cut off, or an old master that came back and has not been told yet, is not believed.
    async fn to_master(&self, sentinels: &[Address], name: &str) -> RedisResult<Set> {
        let mut answers: FuturesUnordered<_> = sentinels.iter().map(|sentinel| self.ask(sentinel, name)).collect();
        let mut votes: HashMap<Address, usize> = HashMap::new();
        let mut failure = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(address) => {
                    let count = votes.entry(address).or_default();
                    *count += 1;
                    // The others cannot outvote it: no need to wait for one that hangs.
                    if *count * 2 > sentinels.len() {
                        break;
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        let mut candidates: Vec<(Address, usize)> = votes.into_iter().collect();
        candidates.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        for (address, _) in candidates {
            let client = self.client(&address, &self.target.credentials)?;
            match self.to_server(&client, Role::Master).await {
                Ok(set) => return Ok(set),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| (ErrorKind::MasterNameNotFoundBySentinel, "no Sentinel knows the master").into()))
    }

    async fn ask(&self, sentinel: &Address, name: &str) -> RedisResult<Address> {
        let client = self.client(sentinel, &self.target.sentinel_credentials)?;
        let asking = async {
            let mut connection = connect(&client, SENTINEL_TIMEOUT).await?;
            let mut question = redis::cmd("SENTINEL");
            question.arg("get-master-addr-by-name").arg(name);
            question.query_async::<Option<(String, u16)>>(&mut connection).await
        };
        let answer = timeout(SENTINEL_TIMEOUT, asking).await.map_err(|_| timed_out())??;
        let (host, port) = answer
            .ok_or((ErrorKind::MasterNameNotFoundBySentinel, "a Sentinel does not know a master of that name"))?;
        Ok(Address { host, port })
    }

    fn client(&self, address: &Address, credentials: &Credentials) -> RedisResult<Client> {
        let info = self.info(address, credentials)?;
        if self.target.tls { Client::build_with_tls(info, self.certificates.clone()) } else { Client::open(info) }
    }

    fn cluster_client(&self, nodes: &[Address]) -> RedisResult<ClusterClient> {
        let nodes = nodes
            .iter()
            .map(|node| self.info(node, &self.target.credentials))
            .collect::<RedisResult<Vec<ConnectionInfo>>>()?;
        // Measured: with the default waits, callers stall through a failover; with these they fail in milliseconds.
        let builder = ClusterClient::builder(nodes)
            .retries(3)
            .min_retry_wait(10)
            .max_retry_wait(200)
            .connection_timeout(NODE_TIMEOUT)
            .response_timeout(self.timeout)
            .tcp_settings(tcp());
        if self.target.tls { builder.certs(self.certificates.clone()).build() } else { builder.build() }
    }

    fn info(&self, address: &Address, credentials: &Credentials) -> RedisResult<ConnectionInfo> {
        let (host, port) = (address.host.clone(), address.port);
        let place = if self.target.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        // No CLIENT SETINFO: a least-privilege ACL user may not have it.
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = &credentials.user {
            login = login.set_username(user);
        }
        if let Some(password) = &credentials.password {
            login = login.set_password(password);
        }
        if *credentials == self.target.credentials {
            login = login.set_db(self.target.database);
        }
        Ok(place.into_connection_info()?.set_redis_settings(login).set_tcp_settings(tcp()))
    }
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// Requests have deadlines of their own, so the connection needs none.
async fn connect(client: &Client, within: Duration) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(within))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(WRITE_QUEUE);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// A connection on which somebody answered.
async fn to_one(client: &Client, role: Role) -> RedisResult<Connection> {
    let connection = Connection::Single(connect(client, CONNECT_TIMEOUT).await?);
    greet(connection.clone(), role).await.map(|()| connection)
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
