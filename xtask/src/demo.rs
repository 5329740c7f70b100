//! `cargo xtask demo`: a real Envoy with the plugin, a policy and an upstream on loopback, watched once a second, or
//! checked by `check` and ended.
//! Not here: how Envoy is started (`envoy`) and what a policy may say (the engine).

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::envoy::{Envoy, Filter, Plugin, Settings, fetch};
use crate::tools::IfMissing;
use crate::upstream::Upstream;
use crate::{build, workspace};

mod check;

/// Envoy's names of the filter's metrics begin so; then come `NAMESPACE.requests_total.OUTCOME` or
/// `NAMESPACE.verdicts_total.RULE.OUTCOME`.
pub const METRICS: &str = "wasmcustom.tidegate.";

/// The port that documentation names.
const USUAL_PORT: u16 = 10_000;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct DemoArgs {
    /// Check and end, instead of serving until Ctrl-C.
    pub check: bool,
    /// The policy's file; `None` for the default policy.
    pub policy: Option<PathBuf>,
    /// The port on loopback; `None` for 10000, or a free one where that is taken.
    pub port: Option<u16>,
    /// Whether to fetch and install.
    pub if_missing: IfMissing,
}

/// Serves until Ctrl-C, or checks. False means that the check found something wrong.
///
/// # Errors
/// When something cannot be fetched, built, read or started.
pub fn run(args: &DemoArgs) -> Result<bool> {
    let binary = fetch::binary(args.if_missing)?;
    if std::env::var_os("TIDEGATE_WASM").is_none() {
        build::run(args.if_missing)?;
    }
    let file = args.policy.clone().unwrap_or_else(workspace::default_policy);
    let policy = fs::read_to_string(&file).with_context(|| format!("reading the policy {}", file.display()))?;

    // From here on a signal must not end this program before it has ended Envoy.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;

    let upstream = Upstream::start()?;
    // Inside the listener, not by ECDS: a bad policy then ends the demo with its messages instead of serving nothing.
    let mut settings =
        Settings::new(upstream.address(), vec![Filter::Static(Plugin { sees_bodies: true, ..Plugin::new(&policy) })]);
    let port = if args.check && args.port.is_none() { 0 } else { free_port(args.port)? };
    settings.listeners.iter_mut().for_each(|listener| listener.port = port);
    let envoy = Envoy::start(&binary, &settings)
        .with_context(|| format!("serving {} with {}", file.display(), workspace::wasm_file().display()))?;
    let address = envoy.address("main")?;
    println!("policy    {}", file.display());
    println!("Envoy     http://{address} (admin http://{})", envoy.admin_address());
    println!("upstream  http://{}", upstream.address());
    if args.check {
        return check::run(address, &policy);
    }
    print_what_to_try(address);
    runtime.block_on(watch(envoy, &mut signals))?;
    Ok(true)
}

fn print_what_to_try(address: SocketAddr) {
    println!("\nTry, in another terminal:");
    println!("  curl -i http://{address}/");
    println!(
        "  for i in $(seq 60); do curl -s -o /dev/null -w '%{{http_code}}\\n' http://{address}/; done | sort | uniq -c"
    );
    println!("  curl -i -H 'x-user-id: alice' http://{address}/api/search");
    println!("\nRequests a second; Ctrl-C ends Envoy and the upstream.");
}

/// The port asked for, which must be free; or the usual one; or, with a notice, any free one (0).
fn free_port(asked: Option<u16>) -> Result<u16> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    match asked {
        Some(port) if is_free(port) => Ok(port),
        Some(port) => {
            bail!("port {port} of 127.0.0.1 is taken; name another one with --port, or none")
        }
        None if is_free(USUAL_PORT) => Ok(USUAL_PORT),
        None => {
            println!("note: port {USUAL_PORT} is taken, so Envoy listens on a free one");
            Ok(0)
        }
    }
}

/// The signals by which people and service managers end a program.
struct Signals {
    kinds: [Signal; 4],
}

impl Signals {
    fn listen() -> Result<Self> {
        let on = |kind| signal(kind).context("listening for signals");
        let kinds = [
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
            on(SignalKind::quit())?,
        ];
        Ok(Self { kinds })
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup, quit] = &mut self.kinds;
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
            _ = hangup.recv() => (),
            _ = quit.recv() => (),
        }
    }
}

/// Prints one line a second until a signal comes.
async fn watch(mut envoy: Envoy, signals: &mut Signals) -> Result<()> {
    // A new Envoy has counted nothing yet; reading its counters here could miss the first requests.
    let mut last = Counts::default();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.tick().await;
    loop {
        tokio::select! {
            () = signals.any() => {
                println!("\nending");
                return Ok(());
            }
            _ = second.tick() => (),
        }
        if !envoy.is_running() {
            // The terminal's Ctrl-C reaches Envoy too, and it may be the faster one.
            println!("\nEnvoy has ended");
            return Ok(());
        }
        let Ok(now) = Counts::read(&envoy) else {
            continue;
        };
        println!("{}", now.since(&last));
        last = now;
    }
}

/// The filter's counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    allowed: u64,
    limited: u64,
    /// By rule: requests that it limited. One request may be limited by several.
    limited_by: BTreeMap<String, u64>,
}

impl Counts {
    fn read(envoy: &Envoy) -> Result<Self> {
        Ok(Self::from_stats(&envoy.stats("^wasmcustom")?))
    }

    fn from_stats(stats: &BTreeMap<String, u64>) -> Self {
        let mut counts = Self::default();
        for (name, &count) in stats {
            let parts: Vec<&str> = name.strip_prefix(METRICS).unwrap_or_default().split('.').collect();
            match *parts.as_slice() {
                [_, "requests_total", "limited"] => counts.limited = counts.limited.saturating_add(count),
                [_, "requests_total", _] => counts.allowed = counts.allowed.saturating_add(count),
                [_, "verdicts_total", rule, "limited"] => _ = counts.limited_by.insert(rule.to_owned(), count),
                _ => (),
            }
        }
        counts
    }

    /// The line for what happened since `before`.
    fn since(&self, before: &Self) -> String {
        let allowed = self.allowed.saturating_sub(before.allowed);
        let limited = self.limited.saturating_sub(before.limited);
        let mut line = format!("allowed {allowed:>6}   limited {limited:>6}");
        let by_rule = self.limited_by.iter().filter_map(|(rule, count)| {
            let count = count.saturating_sub(before.limited_by.get(rule).copied().unwrap_or(0));
            (count > 0).then(|| format!("{rule} {count}"))
        });
        let by_rule: Vec<String> = by_rule.collect();
        if !by_rule.is_empty() {
            line.push_str("   by ");
            line.push_str(&by_rule.join(", "));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_shows_what_changed_and_which_rules_limited() {
        let stats = |allowed, limited, per_ip| {
            let entries = [
                ("wasmcustom.tidegate.default.requests_total.allowed", allowed),
                ("wasmcustom.tidegate.default.requests_total.unlimited", 5),
                ("wasmcustom.tidegate.default.requests_total.limited", limited),
                ("wasmcustom.tidegate.default.verdicts_total.per_ip.limited", per_ip),
                ("wasmcustom.tidegate.default.verdicts_total.per_ip.allowed", 77),
                ("wasmcustom.tidegate.default.verdicts_total.global.limited", 4),
            ];
            Counts::from_stats(&entries.map(|(name, count)| (name.to_owned(), count)).into())
        };
        let line = stats(22, 9, 9).since(&stats(10, 1, 1));
        assert_eq!(line, "allowed     12   limited      8   by per_ip 8");
    }

    #[test]
    fn a_taken_port_is_refused_when_asked_for() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let message = free_port(Some(port)).unwrap_err().to_string();
        assert!(message.contains(&port.to_string()) && message.contains("--port"), "{message}");
    }
}
