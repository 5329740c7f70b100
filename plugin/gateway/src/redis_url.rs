//! The `--redis` URL: `redis`, `rediss`, `sentinel`, `sentinels`, `redis-cluster` and `rediss-cluster`.
//! Not here: connecting (`store`). No message quotes the URL, since it holds a password.

use std::fmt;

use percent_encoding::percent_decode_str;

/// Redis's own port.
const REDIS_PORT: u16 = 6379;
/// Sentinel's own port.
const SENTINEL_PORT: u16 = 26379;
/// More starting points than anybody has sentinels; bounds the connections of one search for the master.
const MAX_ADDRESSES: usize = 32;
/// What a Sentinel set-up calls its master when it follows the example file.
const MASTER_NAME: &str = "mymaster";

/// A host and its port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

/// User and password for a Redis or a Sentinel. No `Debug`: it is a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// ACL user; without one Redis's `default`.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
}

/// How the servers behind the URL are arranged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// One server.
    Single(Address),
    /// Sentinels that know the master.
    Sentinel {
        /// Where to ask.
        sentinels: Vec<Address>,
        /// The master's name there.
        master: String,
    },
    /// Nodes of a Cluster; the rest is found from them.
    Cluster(Vec<Address>),
}

/// What a `--redis` URL says.
#[derive(Clone)]
pub struct Target {
    /// The servers.
    pub layout: Layout,
    /// Whether Redis, and Sentinel too, is reached by TLS.
    pub tls: bool,
    /// For Redis.
    pub credentials: Credentials,
    /// For Sentinel, where it asks for its own.
    pub sentinel_credentials: Credentials,
    /// Database number; 0 in a Cluster.
    pub database: i64,
}

/// The parts of the URL's path: the master's name, if any, and the database.
struct Path {
    master: Option<String>,
    database: i64,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong and what is allowed, without quoting user, password or the whole URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(|| {
            "not a URL; write redis://host:port/db, rediss://..., sentinel://... or redis-cluster://...".to_owned()
        })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let credentials = login.map(credentials).transpose()?.unwrap_or_default();
        let path = read_path(path)?;
        let tls = matches!(scheme, "rediss" | "sentinels" | "rediss-cluster");
        let layout = match scheme {
            "redis" | "rediss" => match addresses(hosts, REDIS_PORT)?.as_slice() {
                [address] => Layout::Single(address.clone()),
                _ => {
                    return Err(format!("{scheme}:// takes one host; for several use sentinel:// or redis-cluster://"));
                }
            },
            "sentinel" | "sentinels" => Layout::Sentinel {
                sentinels: addresses(hosts, SENTINEL_PORT)?,
                master: path.master.clone().unwrap_or_else(|| MASTER_NAME.to_owned()),
            },
            "redis-cluster" | "rediss-cluster" => Layout::Cluster(addresses(hosts, REDIS_PORT)?),
            _ => {
                return Err("unknown scheme; known are redis, rediss, sentinel, sentinels, redis-cluster, \
                            rediss-cluster"
                    .to_owned());
            }
        };
        let with_sentinels = matches!(layout, Layout::Sentinel { .. });
        if path.master.is_some() && !with_sentinels {
            return Err("the path must be the number of a database, such as /0".to_owned());
        }
        if path.database != 0 && matches!(layout, Layout::Cluster(_)) {
            return Err("a Cluster has database 0 only".to_owned());
        }
        let sentinel_credentials = sentinel_credentials(query, with_sentinels)?;
        Ok(Self { layout, tls, credentials, sentinel_credentials, database: path.database })
    }

    /// Whether the scheme asks for TLS.
    pub fn uses_tls(&self) -> bool {
        self.tls
    }
}

/// The target without credentials, for logs.
impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[Address]| addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
        match &self.layout {
            Layout::Single(address) => write!(out, "redis at {address}/{}", self.database),
            Layout::Sentinel { sentinels, master } => {
                write!(out, "master {master}/{} of sentinels {}", self.database, list(sentinels))
            }
            Layout::Cluster(nodes) => write!(out, "cluster of {}", list(nodes)),
        }
    }
}

fn credentials(login: &str) -> Result<Credentials, String> {
    let (user, password) = login
        .split_once(':')
        .ok_or_else(|| "a user needs a password: user:password@host, or :password@host without user".to_owned())?;
    let user = decoded(user)?;
    Ok(Credentials { user: Some(user).filter(|user| !user.is_empty()), password: Some(decoded(password)?) })
}

fn sentinel_credentials(query: &str, allowed: bool) -> Result<Credentials, String> {
    let mut found = Credentials::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "sentinel_user" if allowed => found.user = Some(decoded(value)?),
            "sentinel_password" if allowed => found.password = Some(decoded(value)?),
            _ => return Err("after ? only sentinel:// takes sentinel_user and sentinel_password".to_owned()),
        }
    }
    if found.user.is_some() && found.password.is_none() {
        return Err("sentinel_user needs sentinel_password".to_owned());
    }
    Ok(found)
}

fn read_path(path: &str) -> Result<Path, String> {
    let number = |text: &str| text.parse::<u16>().ok().map(i64::from);
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.as_slice() {
        [] => Ok(Path { master: None, database: 0 }),
        [only] => match number(only) {
            Some(database) => Ok(Path { master: None, database }),
            None => Ok(Path { master: Some(decoded(only)?), database: 0 }),
        },
        [master, database] => match number(database) {
            Some(database) => Ok(Path { master: Some(decoded(master)?), database }),
            None => Err("the last part of the path must be the number of a database".to_owned()),
        },
        _ => Err("the path has too many parts; write /db or, for sentinel://, /master/db".to_owned()),
    }
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<Address>, String> {
    let found = hosts.split(',').map(|host| address(host, default_port)).collect::<Result<Vec<_>, _>>()?;
    if found.len() > MAX_ADDRESSES {
        return Err(format!("{} hosts; at most {MAX_ADDRESSES} are allowed", found.len()));
    }
    Ok(found)
}

fn address(text: &str, default_port: u16) -> Result<Address, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(|| "an IPv6 address lacks its `]`".to_owned())?;
            (host, after.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') {
        return Err("a host is empty or malformed; write host or host:port".to_owned());
    }
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(format!("the port of {host} must be a number from 1 to 65535")),
        },
    };
    Ok(Address { host: host.to_owned(), port })
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "a percent-encoded part is not UTF-8".to_owned())?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests;
