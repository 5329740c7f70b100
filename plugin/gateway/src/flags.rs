//! The command line: every flag, its environment variable, its bounds, and the checks across flags.
//! Not here: what a Redis URL may say (`redis_url`) and which commands may be allowed (`commands`).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

use crate::commands::CommandList;
use crate::guard::Tokens;
use crate::redis_url::Target;
use crate::tls::{self, ServerTls, StoreTls};

/// Redis over HTTP, in the Upstash REST protocol.
#[derive(Parser)]
#[command(name = "tidegate-gateway", version, about, max_term_width = 110)]
pub struct Flags {
    /// Where Redis is: `redis://[user:pass@]host[:port][/db]`, `rediss://`,
    /// `sentinel://host[:port],.../[master/]db`, `redis-cluster://host[:port],...`
    #[arg(long, value_name = "URL", env = "TIDEGATE_REDIS", hide_env_values = true)]
    pub redis: String,

    /// Own certificate authority for a Redis with TLS (PEM); without it the system's
    #[arg(long, value_name = "FILE", env = "TIDEGATE_REDIS_CA")]
    pub redis_ca: Option<PathBuf>,

    /// Client certificate for a Redis that asks for one (PEM)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_REDIS_CERT", requires = "redis_key")]
    pub redis_cert: Option<PathBuf>,

    /// Key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_REDIS_KEY", requires = "redis_cert")]
    pub redis_key: Option<PathBuf>,

    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", env = "TIDEGATE_LISTEN", default_value = "127.0.0.1:8079")]
    pub listen: SocketAddr,

    /// Bearer token that every command must bring; at least 16 characters
    #[arg(long, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// File with bearer tokens, one a line; any of them is accepted
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// Threads, each with its own share of the callers and its own connections; without it the number of cores, at most 4
    #[arg(long, value_name = "N", env = "TIDEGATE_THREADS",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,

    /// Connections of each thread to Redis (to each node of a Cluster)
    #[arg(long, value_name = "N", env = "TIDEGATE_CONNECTIONS", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub connections: u16,

    /// Lets one more command pass; can be repeated
    #[arg(long, value_name = "NAME", env = "TIDEGATE_ALLOW_COMMAND", value_delimiter = ',')]
    pub allow_command: Vec<String>,

    /// Lets EVAL, EVALSHA and SCRIPT LOAD take any script, not only the built-in ones
    #[arg(long, env = "TIDEGATE_ALLOW_SCRIPTS", value_parser = clap::builder::BoolishValueParser::new(),
          num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    pub allow_scripts: bool,

    /// Certificate chain to serve HTTPS with (PEM)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// How long a request waits for Redis, in milliseconds, all retries included
    #[arg(long, value_name = "MS", env = "TIDEGATE_TIMEOUT_MS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub timeout_ms: u64,

    /// Largest request body, in bytes
    #[arg(long, value_name = "N", env = "TIDEGATE_MAX_BODY_BYTES", default_value_t = 1_048_576,
          value_parser = clap::value_parser!(u32).range(1_024..=67_108_864))]
    pub max_body_bytes: u32,

    /// Bytes of request bodies held at once; beyond it requests are answered 503
    #[arg(long, value_name = "N", env = "TIDEGATE_MAX_BODY_MEMORY", default_value_t = 67_108_864,
          value_parser = clap::value_parser!(u32).range(1_024..))]
    pub max_body_memory: u32,

    /// Requests worked on at once; more are answered 503
    #[arg(long, value_name = "N", env = "TIDEGATE_MAX_IN_FLIGHT", default_value_t = 4_096,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_in_flight: u32,

    /// Open HTTP connections; more wait to be accepted
    #[arg(long, value_name = "N", env = "TIDEGATE_MAX_CONNECTIONS", default_value_t = 4_096,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_connections: u32,

    /// Commands in one /pipeline or /multi-exec
    #[arg(long, value_name = "N", env = "TIDEGATE_MAX_PIPELINE", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_pipeline: u32,

    /// How long requests may finish after SIGTERM, in milliseconds
    #[arg(long, value_name = "MS", env = "TIDEGATE_DRAIN_MS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub drain_ms: u64,

    /// Least important kind of line that is logged
    #[arg(long, value_enum, env = "TIDEGATE_LOG_LEVEL", default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,

    /// How log lines look
    #[arg(long, value_enum, env = "TIDEGATE_LOG_FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The least important kind of line that is logged.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogLevel {
    /// What ends the process.
    Error,
    /// What an operator should look at: Redis lost, flags that are risky.
    Warn,
    /// Start, stop, Redis found again.
    Info,
    /// Every refused request, without what it carried.
    Debug,
}

/// How log lines look.
#[derive(Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The flags after every check: what the rest of the program works from. Holds secrets, so it has no `Debug`.
pub struct Settings {
    /// Where Redis is, with credentials.
    pub target: Target,
    /// How to trust a Redis with TLS.
    pub store_tls: StoreTls,
    /// Where to listen.
    pub listen: SocketAddr,
    /// What serves HTTPS, if anything.
    pub server_tls: Option<ServerTls>,
    /// Who may ask.
    pub tokens: Tokens,
    /// What may be asked.
    pub commands: CommandList,
    /// Threads.
    pub threads: usize,
    /// Connections of each thread to Redis.
    pub connections: usize,
    /// How long a request waits for Redis in all.
    pub timeout: Duration,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Bytes of request bodies held at once.
    pub max_body_memory: usize,
    /// Requests worked on at once.
    pub max_in_flight: usize,
    /// Open HTTP connections.
    pub max_connections: usize,
    /// Commands in one batch.
    pub max_pipeline: usize,
    /// How long requests may finish after a signal.
    pub drain: Duration,
    /// What is allowed but risky; to be logged.
    pub warnings: Vec<String>,
}

impl Flags {
    /// Reads a command line and the environment. Of a token and a file of tokens, the one on the command line wins.
    ///
    /// # Errors
    /// What clap says of the first mistake, or the text of `--help`.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(line)?;
        let mut flags = Self::from_arg_matches(&matches)?;
        let typed = |flag| matches.value_source(flag) == Some(ValueSource::CommandLine);
        match (typed("token"), typed("token_file")) {
            (true, false) => flags.token_file = None,
            (false, true) => flags.token = None,
            _ => {}
        }
        Ok(flags)
    }

    /// Checks the flags against each other and reads the files they name.
    ///
    /// # Errors
    /// The first mistake, as a sentence that names the flag and what is allowed. No secret is quoted.
    pub fn settled(self) -> Result<Settings, String> {
        let target = Target::parse(&self.redis).map_err(|mistake| format!("--redis: {mistake}"))?;
        let tokens = Tokens::read(self.token, self.token_file.as_deref())?;
        let on_loopback = self.listen.ip().to_canonical().is_loopback();
        if tokens.is_empty() && !on_loopback {
            return Err(format!(
                "--listen {}: beyond loopback a token is required; give --token-file FILE (a file made with \
                 `openssl rand -hex 32`)",
                self.listen
            ));
        }
        let commands = CommandList::new(&self.allow_command, self.allow_scripts)
            .map_err(|mistake| format!("--allow-command: {mistake}"))?;
        let server_tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(tls::server(cert, key)?),
            _ => None,
        };
        let store_tls =
            StoreTls::read(self.redis_ca.as_deref(), self.redis_cert.as_deref(), self.redis_key.as_deref())?;
        if store_tls.is_given() && !target.uses_tls() {
            return Err(
                "--redis-ca, --redis-cert: the URL in --redis does not use TLS; write rediss://, sentinels:// \
                        or rediss-cluster://"
                    .to_owned(),
            );
        }
        if self.max_body_memory < self.max_body_bytes {
            return Err(format!(
                "--max-body-memory {}: smaller than one body may be; at least --max-body-bytes, {}, is needed",
                self.max_body_memory, self.max_body_bytes
            ));
        }
        let mut warnings = Vec::new();
        if !on_loopback && server_tls.is_none() {
            warnings.push(format!(
                "{} is served without TLS: the token crosses the network in clear unless a proxy or mesh encrypts it",
                self.listen
            ));
        }
        Ok(Settings {
            target,
            store_tls,
            listen: self.listen,
            server_tls,
            tokens,
            commands,
            threads: self.threads.map_or_else(default_threads, usize::from),
            connections: usize::from(self.connections),
            timeout: Duration::from_millis(self.timeout_ms),
            max_body_bytes: self.max_body_bytes as usize,
            max_body_memory: self.max_body_memory as usize,
            max_in_flight: self.max_in_flight as usize,
            max_connections: self.max_connections as usize,
            max_pipeline: self.max_pipeline as usize,
            drain: Duration::from_millis(self.drain_ms),
            warnings,
        })
    }
}

/// One a core, at most 4: a Redis is busy before a fifth thread would be.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(arguments: &[&str]) -> Result<Settings, String> {
        let all = ["tidegate-gateway", "--redis", "redis://localhost"].iter().chain(arguments);
        Flags::read(all).map_err(|error| error.to_string())?.settled()
    }

    #[test]
    fn loopback_needs_no_token_and_everything_else_does() {
        for loopback in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert!(settled(&["--listen", loopback]).is_ok(), "{loopback}");
        }
        for open in ["0.0.0.0:8079", "[::]:8079", "192.168.1.1:80"] {
            let mistake = settled(&["--listen", open]).err().expect("refused");
            assert!(mistake.contains("a token is required"), "{mistake}");
            assert!(settled(&["--listen", open, "--token", "0123456789abcdef"]).is_ok(), "{open}");
        }
    }

    #[test]
    fn flags_that_contradict_are_refused() {
        assert!(settled(&["--redis-ca", "/dev/null"]).err().expect("refused").contains("does not use TLS"));
        assert!(settled(&["--tls-cert", "/dev/null"]).is_err());
        assert!(settled(&["--connections", "0"]).is_err());
        let both = ["--token", "0123456789abcdef", "--token-file", "/dev/null"];
        assert!(settled(&both).err().expect("refused").contains("one of the two"));
        assert!(settled(&["--max-body-memory", "1048575"]).err().expect("refused").contains("--max-body-bytes"));
        assert!(settled(&["--token", "short"]).err().expect("refused").contains("at least 16"));
        assert!(settled(&["--allow-command", "SELECT"]).err().expect("refused").contains("never passes"));
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        for argument in Flags::command().get_arguments().filter(|argument| argument.get_long() != Some("help")) {
            let Some(long) = argument.get_long().filter(|long| *long != "version") else { continue };
            let expected = format!("TIDEGATE_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "--{long}");
        }
    }
}
