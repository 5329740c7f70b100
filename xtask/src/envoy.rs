//! A real Envoy for a test or the demo: started in a temporary folder on free loopback ports, watched, updated, ended.
//! Not here: its configuration (`config`), its statistics (`stats`), and where the binary comes from (`fetch`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub mod config;
pub mod fetch;
mod stats;

pub use config::{Cluster, Filter, Listener, Plugin, Settings};

use crate::load::{Client, Request};
use crate::{open_files, workspace};

/// How long Envoy may take to be ready. Compiling a plugin of 400 KB takes a second on an idle machine.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long Envoy may take to end after SIGTERM before it is killed.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// How often files and ports are looked at while waiting.
const POLL: Duration = Duration::from_millis(20);

/// A running Envoy; ends, with its folder, when dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: Client,
    admin_address: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
    /// Dropped last: Envoy writes into it until it has ended.
    folder: TempDir,
}

impl Envoy {
    /// Starts `binary` (see [`fetch::binary`]) and waits until it is ready to serve.
    ///
    /// # Errors
    /// When it ends or is not ready within a minute; the message holds the warnings and errors of its log.
    pub fn start(binary: &Path, settings: &Settings) -> Result<Self> {
        let folder = new_folder()?;
        let path = folder.path();
        fs::create_dir(path.join("ecds")).context("making the ECDS folder")?;
        for filter in settings.listeners.iter().flat_map(|listener| &listener.filters) {
            if let Filter::Discovered(plugin) = filter {
                put_discovery_file(path, plugin)?;
            }
        }
        let bootstrap = path.join("envoy.json");
        fs::write(&bootstrap, format!("{:#}", settings.bootstrap(path))).context("writing Envoy's bootstrap")?;
        let mut command = command(binary, &bootstrap, path)?;
        command.args(["--concurrency", &settings.concurrency.to_string(), "--log-level", &settings.log_level]);
        command.envs(settings.environment.iter().map(|(name, value)| (name, value)));
        Self::run(command, folder)
    }

    /// Starts `binary` with a bootstrap file as a user has it, in `working_folder`, which relative paths in it mean;
    /// with two workers. It needs an admin interface. [`Envoy::access_log`] then works only for the file that this
    /// module's own configuration names.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn start_file(binary: &Path, bootstrap: &Path, working_folder: &Path) -> Result<Self> {
        let folder = new_folder()?;
        let mut command = command(binary, bootstrap, folder.path())?;
        command.args(["--concurrency", "2"]).current_dir(working_folder);
        Self::run(command, folder)
    }

    fn run(mut command: Command, folder: TempDir) -> Result<Self> {
        let mut process = Process::start(&mut command)?;
        let (admin, admin_address) = wait_until_ready(&mut process, folder.path())
            .with_context(|| format!("starting Envoy; its log says:\n{}", complaints(folder.path()).join("\n")))?;
        let listeners = listeners(&admin)?;
        Ok(Self { process, admin, admin_address, listeners, folder })
    }

    /// Where the listener of that name listens.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn address(&self, listener: &str) -> Result<SocketAddr> {
        let known = || self.listeners.keys().cloned().collect::<Vec<_>>().join(", ");
        self.listeners
            .get(listener)
            .copied()
            .with_context(|| format!("no listener {listener:?}; there are: {}", known()))
    }

    /// Where the admin interface listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.child.try_wait(), Ok(None))
    }

    /// Delivers a changed plugin (policy, .wasm or both) by ECDS to the filter of the same name, and waits until Envoy
    /// has taken it on all workers or refused it. What is the same as before is not delivered again; a changed .wasm
    /// therefore needs another path.
    ///
    /// # Errors
    /// When Envoy refuses it, with what its log then says, or does not react within a minute.
    pub fn update(&self, plugin: &Plugin) -> Result<()> {
        let lines_before = self.log_lines()?.len();
        let before = self.discovery_counts(&plugin.name)?;
        if !put_discovery_file(self.folder.path(), plugin)? {
            return Ok(());
        }
        let start = Instant::now();
        loop {
            let now = self.discovery_counts(&plugin.name)?;
            if now.refused > before.refused {
                let lines = self.flushed_log_lines()?.split_off(lines_before);
                bail!("Envoy refused the update of {}; its log says:\n{}", plugin.name, bad_lines(lines).join("\n"));
            }
            if now.accepted > before.accepted && now.applied > before.applied {
                return Ok(());
            }
            if start.elapsed() > READY_WITHIN {
                bail!("Envoy did not react to the update of {} within {READY_WITHIN:?}", plugin.name);
            }
            sleep(POLL);
        }
    }

    /// Asks the admin interface, such as `GET /stats` or `POST /drain_listeners`.
    ///
    /// # Errors
    /// When the answer is not 200.
    pub fn admin(&self, method: &str, path: &str) -> Result<String> {
        ask_admin(&self.admin, method, path)
    }

    /// The lines of Envoy's log so far.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log_lines(&self) -> Result<Vec<String>> {
        read_lines(&log_file(self.folder.path()))
    }

    /// The lines of Envoy's log up to now. Envoy writes its log in batches, so this makes it log a mark and waits.
    ///
    /// # Errors
    /// When the log cannot be read, or the mark does not come within a minute.
    pub fn flushed_log_lines(&self) -> Result<Vec<String>> {
        let marks =
            |lines: &[String]| lines.iter().filter(|line| line.contains("change log level: name='wasm'")).count();
        let before = marks(&self.log_lines()?);
        let start = Instant::now();
        // A mark that was asked for before and comes late would be taken for this one: two are asked for.
        for _ in 0..2 {
            self.admin("POST", "/logging?wasm=info")?;
        }
        loop {
            let lines = self.log_lines()?;
            if marks(&lines) >= before + 2 {
                return Ok(lines);
            }
            if start.elapsed() > READY_WITHIN {
                bail!("Envoy did not write its log within {READY_WITHIN:?}");
            }
            sleep(POLL);
        }
    }

    /// The access log so far, one JSON object a request: `start` (seconds), `method`, `path`, `client`, `status`,
    /// `details`, `flags`, `rule`, `outcome`, `at`, `store`... Waits up to 10 s for at least `count` entries: Envoy writes them
    /// after the response, in batches.
    ///
    /// # Errors
    /// When there are fewer after 10 s, or a line is not JSON.
    pub fn access_log(&self, count: usize) -> Result<Vec<Value>> {
        let start = Instant::now();
        loop {
            let lines = read_lines(&access_log_file(self.folder.path()))?;
            if lines.len() >= count {
                let parse =
                    |line: &String| serde_json::from_str(line).with_context(|| format!("access log line {line:?}"));
                return lines.iter().map(parse).collect();
            }
            if start.elapsed() > Duration::from_secs(10) {
                bail!("the access log has {} entries, expected at least {count}", lines.len());
            }
            sleep(POLL);
        }
    }
}

/// Envoy's process; ended by its id when dropped, never by name.
#[derive(Debug)]
struct Process {
    child: Child,
}

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        open_files::raise();
        let child = command.spawn().with_context(|| format!("starting {}", workspace::line(command)))?;
        Ok(Self { child })
    }

    fn ended_within(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > patience {
                return false;
            }
            sleep(POLL);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A child that ended keeps its id until it is waited for, so this can hit nobody else.
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            if pid.is_none_or(|pid| kill_process(pid, Signal::TERM).is_err()) || !self.ended_within(ENDED_WITHIN) {
                let _ = self.child.kill();
            }
        }
        let _ = self.child.wait();
    }
}

fn new_folder() -> Result<TempDir> {
    tempfile::Builder::new().prefix("tidegate-envoy-").tempdir().context("making Envoy's folder")
}

/// Envoy's command line, but for what a configuration decides.
fn command(binary: &Path, bootstrap: &Path, folder: &Path) -> Result<Command> {
    let output = File::create(output_file(folder)).context("making the file for Envoy's output")?;
    let mut command = Command::new(binary);
    command.arg("--config-path").arg(bootstrap).arg("--log-path").arg(log_file(folder));
    command.arg("--admin-address-path").arg(admin_file(folder));
    // Several Envoys at once must not find each other's shared memory.
    command.arg("--disable-hot-restart");
    // Access logs are flushed every 10 s otherwise; old listeners and VMs stay for 600 s.
    command.args(["--file-flush-interval-msec", "50", "--drain-time-s", "1"]);
    command.stdin(Stdio::null());
    command.stdout(output.try_clone().context("sharing the file for Envoy's output")?).stderr(output);
    Ok(command)
}

fn wait_until_ready(process: &mut Process, folder: &Path) -> Result<(Client, SocketAddr)> {
    let start = Instant::now();
    loop {
        if let Some(status) = process.child.try_wait().context("waiting for Envoy")? {
            bail!("it ended with {status}");
        }
        let address = fs::read_to_string(admin_file(folder)).ok().and_then(|text| text.trim().parse().ok());
        if let Some(address) = address {
            let client = Client::http1(address, 1)?;
            if ask_admin(&client, "GET", "/ready").is_ok() {
                return Ok((client, address));
            }
        }
        if start.elapsed() > READY_WITHIN {
            bail!("it was not ready within {READY_WITHIN:?}");
        }
        sleep(POLL);
    }
}

fn ask_admin(client: &Client, method: &str, path: &str) -> Result<String> {
    let answer = client.send(&Request::new(method, path))?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status != 200 {
        bail!("Envoy's admin interface answered {} to {method} {path}: {body}", answer.status);
    }
    Ok(body)
}

fn listeners(admin: &Client) -> Result<BTreeMap<String, SocketAddr>> {
    let text = ask_admin(admin, "GET", "/listeners?format=json")?;
    let answer: Value = serde_json::from_str(&text).context("Envoy's list of listeners")?;
    let list = answer["listener_statuses"].as_array().ok_or_else(|| anyhow!("no listeners in {answer}"))?;
    let mut map = BTreeMap::new();
    for item in list {
        let socket = &item["local_address"]["socket_address"];
        let (name, ip, port) = (item["name"].as_str(), socket["address"].as_str(), socket["port_value"].as_u64());
        let (Some(name), Some(ip), Some(port)) = (name, ip, port) else { bail!("a listener without address: {item}") };
        let address = format!("{ip}:{port}").parse().with_context(|| format!("the address of listener {name}"))?;
        map.insert(name.to_owned(), address);
    }
    Ok(map)
}

/// Envoy watches for renames, so the file is never seen half-written. False: it holds that already.
fn put_discovery_file(folder: &Path, plugin: &Plugin) -> Result<bool> {
    let file = config::discovery_file(folder, &plugin.name);
    let content = plugin.discovery_response().to_string();
    if fs::read_to_string(&file).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let unfinished = file.with_extension("unfinished");
    fs::write(&unfinished, content).with_context(|| format!("writing {}", unfinished.display()))?;
    fs::rename(&unfinished, &file).with_context(|| format!("moving to {}", file.display()))?;
    Ok(true)
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("envoy.log")
}

fn access_log_file(folder: &Path) -> PathBuf {
    folder.join("access.log")
}

fn output_file(folder: &Path) -> PathBuf {
    folder.join("output.txt")
}

fn admin_file(folder: &Path) -> PathBuf {
    folder.join("admin.txt")
}

fn read_lines(file: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    // The last line may still be growing.
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').and_then(|end| bytes.get(..end)).unwrap_or_default();
    Ok(String::from_utf8_lossy(whole).lines().map(str::to_owned).collect())
}

/// What a failed start left behind that says why.
fn complaints(folder: &Path) -> Vec<String> {
    let logged = bad_lines(read_lines(&log_file(folder)).unwrap_or_default());
    // Before it has a log (a wrong flag, a wrong binary) Envoy speaks on its standard error.
    if logged.is_empty() { read_lines(&output_file(folder)).unwrap_or_default() } else { logged }
}

/// The lines from warnings upwards, with the lines that continue them.
fn bad_lines(lines: Vec<String>) -> Vec<String> {
    let mut is_bad = false;
    let is_wanted = |line: &String| {
        if line.starts_with('[') {
            is_bad = ["[warning]", "[error]", "[critical]"].iter().any(|level| line.contains(level));
        }
        is_bad
    };
    lines.into_iter().filter(is_wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_keep_what_continues_them() {
        let lines = ["[t][info][main] fine", "[t][error][wasm] policy:", "  /rules/0/rate: 0", "[t][info][x] on"];
        let kept = bad_lines(lines.map(String::from).to_vec());
        assert_eq!(kept, ["[t][error][wasm] policy:", "  /rules/0/rate: 0"]);
    }
}
