//! A real Prometheus on a free loopback port, with its data in a temporary folder, and its query API.
//! Not here: promtool (`rules`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::load::{Client, Request};
use xtask::workspace;

/// A running Prometheus; ends, with its folder, when dropped.
pub(crate) struct Prometheus {
    process: Child,
    client: Client,
    /// Dropped last: Prometheus writes into it until it has ended.
    folder: TempDir,
}

/// One series of an answer: its labels, and its value now.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Prometheus {
    /// Starts one that scrapes this Envoy's admin interface and evaluates the example's rules, both once a second.
    pub(crate) fn start(envoy: SocketAddr) -> Self {
        let folder = tempfile::Builder::new().prefix("tidegate-prometheus-").tempdir().unwrap();
        let config = folder.path().join("prometheus.json");
        fs::write(&config, configuration(envoy).to_string()).unwrap();
        // Prometheus takes no port 0, so a free one is asked for and given back.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let output = File::create(folder.path().join("output.txt")).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let process = command.spawn().expect("starting prometheus, which `cargo xtask test` installs");
        let client = Client::http1(address, 1).unwrap();
        let mut prometheus = Self { process, client, folder };
        let start = Instant::now();
        while !prometheus.is_ready() {
            let output = || fs::read_to_string(prometheus.folder.path().join("output.txt")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(30), "Prometheus is not ready:\n{}", output());
            assert!(matches!(prometheus.process.try_wait(), Ok(None)), "Prometheus ended:\n{}", output());
            sleep(Duration::from_millis(50));
        }
        prometheus
    }

    fn is_ready(&self) -> bool {
        self.client.send(&Request::get("/-/ready")).is_ok_and(|answer| answer.status == 200)
    }

    /// What an expression is worth now; the error is Prometheus's own.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let answer = self.ask(&format!("/api/v1/query?query={}", percent_encoded(expression)))?;
        let result = &answer["result"];
        let value = |pair: &Value| pair[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        if answer["resultType"] == "scalar" {
            return Ok(vec![Sample { labels: BTreeMap::new(), value: value(result) }]);
        }
        let labels = |series: &Value| serde_json::from_value(series["metric"].clone()).unwrap();
        let series = result.as_array().cloned().unwrap_or_default();
        Ok(series.iter().map(|one| Sample { labels: labels(one), value: value(&one["value"]) }).collect())
    }

    /// Every value that a label has in the series that a selector finds.
    pub(crate) fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>, String> {
        let query = format!("/api/v1/label/{label}/values?match[]={}", percent_encoded(selector));
        let values = self.ask(&query)?;
        Ok(values.as_array().into_iter().flatten().filter_map(|value| Some(value.as_str()?.to_owned())).collect())
    }

    /// The groups of rules as Prometheus loaded them, each rule with its health.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let answer = self.ask("/api/v1/rules").unwrap();
        let groups = answer["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let answer = self.client.send(&Request::get(path)).map_err(|error| error.to_string())?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        if body["status"] == "success" { Ok(body["data"].clone()) } else { Err(body["error"].to_string()) }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data is thrown away with the folder: nothing is lost by killing it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The example's configuration with another target and shorter intervals. JSON is YAML.
fn configuration(envoy: SocketAddr) -> Value {
    let folder = workspace::root().join("examples/prometheus");
    let text = fs::read_to_string(folder.join("prometheus.yml")).unwrap();
    let mut config: Value = serde_yaml_ng::from_str(&text).unwrap();
    config["global"]["scrape_interval"] = json!("1s");
    config["global"]["scrape_timeout"] = json!("1s");
    config["global"]["evaluation_interval"] = json!("1s");
    for file in config["rule_files"].as_array_mut().unwrap() {
        *file = json!(folder.join(file.as_str().unwrap()));
    }
    let job = &mut config["scrape_configs"][0];
    assert_eq!(job["metrics_path"], "/stats/prometheus");
    job["static_configs"][0]["targets"] = json!([envoy.to_string()]);
    // There is nobody to tell.
    config.as_object_mut().unwrap().remove("alerting");
    config
}

/// Waits until `is_so`, or fails after half a minute.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        sleep(Duration::from_millis(100));
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => encoded + &char::from(byte).to_string(),
        _ => encoded + &format!("%{byte:02X}"),
    })
}
