//! Real Redis servers for one test: standalone with any flags, a Sentinel trio, a six-node Cluster; and webdis.
//! Not here: the gateway (`http`).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Process, free_port, wait_for};

/// Generous: several tests share two cores.
const START: Duration = Duration::from_secs(20);

/// One redis-server.
pub(crate) struct Redis {
    pub(crate) port: u16,
    pub(crate) process: Process,
    folder: TempDir,
}

impl Redis {
    /// A server without persistence and with more flags, on a port of its own.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let redis = Self::start_unchecked(free_port(), flags);
        wait_for("redis-server", START, || redis.try_ask(&["PING"]));
        redis
    }

    /// The same for when a PING would be refused by a password: waits until it accepts connections.
    pub(crate) fn start_unchecked(port: u16, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = server(port, folder.path(), flags);
        wait_for("redis-server's port", START, || {
            let ended = process.0.try_wait().unwrap();
            assert!(ended.is_none(), "redis-server ended at once: {ended:?}; is {port} taken, or a flag wrong?");
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { port, process, folder }
    }

    /// `redis://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Gives it this user of the examples; their password.
    pub(crate) fn set_examples_user(&self, name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/redis/acl.conf");
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("user {name} "))).unwrap();
        let words: Vec<&str> = line.split_whitespace().skip(2).collect();
        self.ask(&[&["ACL", "SETUSER", name], &words[..]].concat());
        words.iter().find_map(|word| word.strip_prefix('>')).unwrap().to_owned()
    }

    /// What the server would say to `command` from this user; OK where it may.
    pub(crate) fn dry_run(&self, user: &str, command: &[&str]) -> String {
        text(&self.ask(&[&["ACL", "DRYRUN", user], command].concat()))
    }

    /// Gives it the user `tidegate` of the examples and no other that may log in; that user's URL.
    pub(crate) fn with_examples_user(&self) -> String {
        let password = self.set_examples_user("tidegate");
        self.ask(&["ACL", "SETUSER", "default", "off"]);
        format!("redis://tidegate:{password}@127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash would, and starts an empty one on the same port.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.0.wait().unwrap();
    }

    pub(crate) fn restart(&mut self, flags: &[&str]) {
        self.process = server(self.port, self.folder.path(), flags);
    }

    /// Asks it directly, without the gateway.
    pub(crate) fn ask(&self, parts: &[&str]) -> redis::Value {
        self.try_ask(parts).unwrap_or_else(|| panic!("redis at {} did not answer {parts:?}", self.port))
    }

    pub(crate) fn try_ask(&self, parts: &[&str]) -> Option<redis::Value> {
        ask(self.port, parts)
    }

    /// How many times each of `commands` was run, by the server's own count.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let stats = text(&self.ask(&["INFO", "commandstats"]));
        let line =
            stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")).map(str::to_owned));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }
}

fn server(port: u16, folder: &Path, flags: &[&str]) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--dir", folder.to_str().unwrap()]).args(flags).stdout(Stdio::null());
    Process::start(&mut command)
}

/// A webdis in front of one server.
pub(crate) struct Webdis {
    pub(crate) address: String,
    _process: Process,
    _folder: TempDir,
}

impl Webdis {
    /// One that lets through what these entries of its `acl` say.
    pub(crate) fn start(redis: &Redis, acl: &Value) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let file = folder.path().join("webdis.json");
        let settings = json!({
            "redis_host": "127.0.0.1", "redis_port": redis.port, "http_host": "127.0.0.1", "http_port": port,
            "threads": 1, "pool_size": 1, "daemonize": false, "database": 0, "verbosity": 0, "logfile": "/dev/null",
            "acl": acl
        });
        std::fs::write(&file, settings.to_string()).unwrap();
        let process = Process::start(Command::new("webdis").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()));
        wait_for("webdis", START, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { address: format!("127.0.0.1:{port}"), _process: process, _folder: folder }
    }
}

/// One command to the server or Sentinel at `port`.
pub(crate) fn ask(port: u16, parts: &[&str]) -> Option<redis::Value> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_connection_with_timeout(Duration::from_millis(500)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut command = redis::Cmd::new();
    for part in parts {
        command.arg(part);
    }
    command.query(&mut connection).ok()
}

/// A string reply.
pub(crate) fn text(value: &redis::Value) -> String {
    redis::from_redis_value_ref(value).unwrap()
}

/// A master, two replicas and three Sentinels that call it `mymaster`.
pub(crate) struct Trio {
    pub(crate) servers: Vec<Redis>,
    pub(crate) sentinels: Vec<Redis>,
}

impl Trio {
    /// The time without an answer after which a Sentinel takes the master for dead.
    pub(crate) const DOWN_AFTER: Duration = Duration::from_secs(1);

    pub(crate) fn start() -> Self {
        let master = Redis::start(&[]);
        let port = master.port.to_string();
        let replica = || Redis::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
        let servers = vec![master, replica(), replica()];
        let sentinels: Vec<Redis> = (0..3).map(|_| sentinel(servers[0].port)).collect();
        let trio = Self { servers, sentinels };
        wait_for("Sentinels that know each other", START, || {
            let agreed = trio.sentinels.iter().all(|sentinel| {
                let state = sentinel.try_ask(&["SENTINEL", "MASTER", "mymaster"]);
                let facts: Vec<String> = state.map(|state| redis::from_redis_value(state).unwrap()).unwrap_or_default();
                let fact = |name: &str| facts.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
                fact("num-slaves").as_deref() == Some("2") && fact("num-other-sentinels").as_deref() == Some("2")
            });
            let synced = trio.servers[0]
                .try_ask(&["INFO", "replication"])
                .is_some_and(|info| text(&info).matches("state=online").count() == 2);
            (agreed && synced).then_some(())
        });
        trio
    }

    /// Waits until a Sentinel names another master than the first.
    pub(crate) fn wait_for_another_master(&self) {
        wait_for("a new master", Duration::from_secs(20), || {
            let named = self.sentinels[1].try_ask(&["SENTINEL", "get-master-addr-by-name", "mymaster"])?;
            let named: Vec<String> = redis::from_redis_value(named).unwrap();
            (named[1] != self.servers[0].port.to_string()).then_some(())
        });
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("sentinel://{}/0", hosts.join(","))
    }
}

fn sentinel(master: u16) -> Redis {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let file = folder.path().join("sentinel.conf");
    let lines = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds mymaster {}\nsentinel failover-timeout mymaster 5000\n",
        folder.path().display(),
        Trio::DOWN_AFTER.as_millis()
    );
    std::fs::write(&file, lines).unwrap();
    let process = Process::start(Command::new("redis-sentinel").arg(&file).stdout(Stdio::null()));
    let sentinel = Redis { port, process, folder };
    wait_for("redis-sentinel", START, || sentinel.try_ask(&["PING"]));
    sentinel
}

/// Three masters with a replica each.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Redis>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let node = || {
            let bus = free_port().to_string();
            Redis::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--cluster-port",
                &bus,
                "--repl-diskless-sync-delay",
                "0",
            ])
        };
        let nodes: Vec<Redis> = (0..6).map(|_| node()).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        create.args(["--cluster-replicas", "1", "--cluster-yes"]).stdout(Stdio::null());
        assert!(create.status().unwrap().success(), "redis-cli --cluster create");
        let cluster = Self { nodes };
        wait_for("a Cluster that is whole", START, || {
            let whole = cluster.nodes.iter().all(|node| {
                let info = node.try_ask(&["CLUSTER", "INFO"]).map(|info| text(&info)).unwrap_or_default();
                let known = node.try_ask(&["CLUSTER", "NODES"]).map(|nodes| text(&nodes)).unwrap_or_default();
                // A replica that was never in step is not promoted.
                let copy = node.try_ask(&["INFO", "replication"]).map(|info| text(&info)).unwrap_or_default();
                (copy.contains("role:master") || copy.contains("master_link_status:up"))
                    && info.contains("cluster_state:ok")
                    && known.matches("slave").count() == 3
                    && !known.contains("fail")
            });
            whole.then_some(())
        });
        cluster
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().take(3).map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis-cluster://{}/0", hosts.join(","))
    }

    /// The index of the node that is master of the slot of `key`.
    pub(crate) fn master_of(&self, key: &str) -> usize {
        let slot = match self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]) {
            redis::Value::Int(slot) => slot,
            other => panic!("{other:?}"),
        };
        let holds = |node: &Redis| {
            let nodes = text(&node.ask(&["CLUSTER", "NODES"]));
            let own = nodes.lines().find(|line| line.contains("myself")).unwrap().to_owned();
            own.split_whitespace().skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let bounds = (first.parse::<i64>(), last.parse::<i64>());
                matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            })
        };
        self.nodes.iter().position(holds).unwrap()
    }
}
