//! Envoy's configuration for the demo and the end-to-end tests, as values that become Envoy's JSON.
//! Not here: the configuration for users, with its reasons: `examples/envoy/`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::workspace;

/// Everything that an Envoy is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Worker threads; each runs the plugin in a VM of its own.
    pub concurrency: u32,
    /// The listeners; found by their names once Envoy runs.
    pub listeners: Vec<Listener>,
    /// The clusters that routes and callouts name. A listener's routes send to the first unless they say otherwise.
    pub clusters: Vec<Cluster>,
    /// Envoy's log level.
    pub log_level: String,
    /// Extra environment, such as `EVENT_PRECISE_TIMER=1` (HOST: ticks of a true millisecond).
    pub environment: Vec<(String, String)>,
    /// How long a paused or silent stream may stay so; then 504 (HOST: a trap leaves paused requests hanging).
    pub stream_idle_timeout: Duration,
    /// How long a whole request may take, then 504; zero means for ever.
    pub request_timeout: Duration,
}

impl Settings {
    /// Two workers, one listener `main` with these filters, one cluster `upstream` at this address.
    pub fn new(upstream: SocketAddr, filters: Vec<Filter>) -> Self {
        Self {
            concurrency: 2,
            listeners: vec![Listener::new("main", filters)],
            clusters: vec![Cluster::new("upstream", upstream)],
            log_level: "info".into(),
            environment: Vec::new(),
            stream_idle_timeout: Duration::from_secs(30),
            request_timeout: Duration::ZERO,
        }
    }
}

/// A listener on 127.0.0.1 that takes HTTP/1 and HTTP/2.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Its port; 0 takes a free one.
    pub port: u16,
    /// The peer's address is the client's (true), or X-Forwarded-For may say what it likes (false, Envoy's default).
    pub use_remote_address: bool,
    /// Proxies in front whose X-Forwarded-For entries are to be believed.
    pub trusted_hops: u32,
    /// The HTTP filters before the router, in order.
    pub filters: Vec<Filter>,
    /// Routes as Envoy's JSON, tried in order; empty: everything to the first cluster.
    pub routes: Vec<Value>,
}

impl Listener {
    /// A listener on a free port that takes the peer's address for the client's.
    pub fn new(name: &str, filters: Vec<Filter>) -> Self {
        let name = name.into();
        Self { name, port: 0, use_remote_address: true, trusted_hops: 0, filters, routes: Vec::new() }
    }
}

/// A filter of a listener.
#[derive(Clone, Debug)]
pub enum Filter {
    /// The plugin, delivered by ECDS: a file that [`super::Envoy::update`] replaces while Envoy runs.
    Discovered(Plugin),
    /// The plugin inside the listener: a bad policy then keeps Envoy from starting.
    Static(Plugin),
    /// Any other filter as Envoy's JSON: `{"name": ..., "typed_config": ...}`.
    Other(Value),
}

/// One instance of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name in `wasm.*` statistics, and the name of its ECDS resource.
    pub name: String,
    /// The root context's name. Instances with equal `vm_id` and file but unequal roots share one VM a worker.
    pub root_id: String,
    /// Whose shared data it uses.
    pub vm_id: String,
    /// The .wasm file.
    pub wasm: PathBuf,
    /// The policy's text; handed over as it is, so that tests can hand over what is no policy.
    pub policy: String,
    /// Whether the plugin sees request bodies while it holds the headers, which the `queue` strategy needs.
    pub sees_bodies: bool,
}

impl Plugin {
    /// An instance called `tidegate` of the .wasm that this run tests, with this policy.
    pub fn new(policy: &str) -> Self {
        Self {
            name: "tidegate".into(),
            root_id: "tidegate".into(),
            vm_id: "tidegate".into(),
            wasm: workspace::wasm_file(),
            policy: policy.into(),
            sees_bodies: false,
        }
    }

    /// Envoy's `Wasm` filter message.
    fn typed_config(&self) -> Value {
        json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": self.name,
                "root_id": self.root_id,
                "vm_config": {
                    "vm_id": self.vm_id,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": self.wasm}},
                },
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": self.policy},
                "allow_on_headers_stop_iteration": self.sees_bodies,
                "failure_policy": "FAIL_RELOAD",
                "reload_config": {"backoff": {"base_interval": "0.1s", "max_interval": "1s"}},
            },
        })
    }

    /// The content of the ECDS file that delivers this instance.
    pub(super) fn discovery_response(&self) -> Value {
        json!({
            "resources": [{
                "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
                "name": self.name,
                "typed_config": self.typed_config(),
            }],
        })
    }
}

/// The ECDS file of the plugin of that name. Envoy goes by its extension.
pub(super) fn discovery_file(folder: &Path, name: &str) -> PathBuf {
    folder.join("ecds").join(format!("{name}.json"))
}

impl Filter {
    fn json(&self, folder: &Path) -> Value {
        match self {
            Self::Other(filter) => filter.clone(),
            Self::Static(plugin) => {
                json!({"name": plugin.name, "typed_config": plugin.typed_config()})
            }
            Self::Discovered(plugin) => json!({
                "name": plugin.name,
                "config_discovery": {
                    "config_source": {
                        "path_config_source": {
                            "path": discovery_file(folder, &plugin.name),
                            "watched_directory": {"path": folder.join("ecds")},
                        },
                        "resource_api_version": "V3",
                        "initial_fetch_timeout": "20s",
                    },
                    "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
                },
            }),
        }
    }
}

/// A static cluster of one address.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its one endpoint.
    pub address: SocketAddr,
    /// How many requests may be out, waiting, or have a connection; the next is refused (Envoy's circuit breaker).
    pub most: u32,
    /// How much Envoy reads from a connection before it turns to others.
    pub reads_at_once: u32,
}

impl Cluster {
    /// A cluster that speaks to its endpoint whatever the client speaks to Envoy.
    pub fn new(name: &str, address: SocketAddr) -> Self {
        // Envoy's defaults of 1024 would answer 503 to tests of 5,000 requests at once.
        Self { name: name.into(), address, most: 100_000, reads_at_once: 1 << 20 }
    }

    fn json(&self) -> Value {
        let many = self.most;
        json!({
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": "5s",
            "per_connection_buffer_limit_bytes": self.reads_at_once,
            "load_assignment": {
                "cluster_name": self.name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(self.address)}}]}],
            },
            "circuit_breakers": {"thresholds": [{
                "max_connections": many, "max_pending_requests": many, "max_requests": many, "max_retries": many,
            }]},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}},
                },
            },
        })
    }
}

fn address(socket: SocketAddr) -> Value {
    json!({"socket_address": {"address": socket.ip().to_string(), "port_value": socket.port()}})
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

impl Settings {
    /// The bootstrap file's content; `folder` holds everything that this Envoy reads and writes.
    pub(super) fn bootstrap(&self, folder: &Path) -> Value {
        json!({
            "node": {"id": "tidegate-test", "cluster": "tidegate-test"},
            "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
            "stats_config": {"stats_tags": stats_tags()},
            "static_resources": {
                "listeners": self.listeners.iter().map(|it| self.listener(it, folder)).collect::<Vec<_>>(),
                "clusters": self.clusters.iter().map(Cluster::json).collect::<Vec<_>>(),
            },
        })
    }

    fn listener(&self, listener: &Listener, folder: &Path) -> Value {
        let mut filters: Vec<Value> = listener.filters.iter().map(|filter| filter.json(folder)).collect();
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }));
        let first_cluster = self.clusters.first().map_or("", |cluster| cluster.name.as_str());
        let routes = if listener.routes.is_empty() {
            vec![json!({"match": {"prefix": "/"}, "route": {"cluster": first_cluster, "timeout": "0s"}})]
        } else {
            listener.routes.clone()
        };
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": listener.name,
            "codec_type": "AUTO",
            "use_remote_address": listener.use_remote_address,
            "xff_num_trusted_hops": listener.trusted_hops,
            "stream_idle_timeout": seconds(self.stream_idle_timeout),
            "request_timeout": seconds(self.request_timeout),
            // HOST: one paused HTTP/2 POST buffers 34 MB with Envoy's own windows.
            "http2_protocol_options": {
                "initial_stream_window_size": 65_536,
                "initial_connection_window_size": 1_048_576,
                "max_concurrent_streams": 100_000,
            },
            // The largest that Envoy takes: tests send 60 KB, and refusing is the plugin's matter, not the codec's.
            "max_request_headers_kb": 96,
            "normalize_path": false,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "access_log": [access_log(&super::access_log_file(folder))],
            "http_filters": filters,
            "route_config": {
                "name": listener.name,
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
            },
        });
        json!({
            "name": listener.name,
            "address": address(SocketAddr::from(([127, 0, 0, 1], listener.port))),
            "tcp_backlog_size": 8192,
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }]}],
        })
    }
}

/// Turns `wasmcustom.tidegate.NAMESPACE.verdicts_total.RULE.OUTCOME` into one Prometheus metric with three labels. Envoy
/// cuts the first group out of the name and takes the second for the label. The same as in the examples.
pub fn stats_tags() -> Value {
    json!([
        {"tag_name": "tidegate_namespace", "regex": r"^wasmcustom\.tidegate\.(([^.]+)\.)"},
        {
            "tag_name": "tidegate_rule",
            "regex": r"^wasmcustom\.tidegate\.[^.]+\.(?:verdicts_total|near_limit_total|remaining_total|queue_[a-z_]+)(\.([^.]+))",
        },
        {
            "tag_name": "tidegate_outcome",
            "regex": r"^wasmcustom\.tidegate\.[^.]+\.(?:verdicts_total\.[^.]+|requests_total|table_given_up_total|store_calls_total)(\.([^.]+))$",
        },
        {"tag_name": "tidegate_alert", "regex": r"^wasmcustom\.tidegate\.[^.]+\.alert_firing(\.([^.]+))$"},
        {"tag_name": "tidegate_vm", "regex": r"^wasmcustom\.tidegate\.[^.]+\.waiting_by_vm(\.([^.]+))$"},
        {"tag_name": "wasm_plugin", "regex": r"^wasm\.((.+)\.)vm_reload"},
        {"tag_name": "ecds_resource", "regex": r"^extension_config_discovery\.http_filter\.((.+)\.)[a-z_]+$"},
    ])
}

/// One JSON object a line. What the plugin sets as property `X` is the filter state `wasm.X`.
fn access_log(file: &Path) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": file,
            "log_format": {"json_format": {
                "start": "%START_TIME(%s.%6f)%",
                "listener": "%REQ(:AUTHORITY)%",
                "method": "%REQ(:METHOD)%",
                "path": "%REQ(:PATH)%",
                "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                "request_id": "%REQ(X-REQUEST-ID)%",
                "status": "%RESPONSE_CODE%",
                "details": "%RESPONSE_CODE_DETAILS%",
                "flags": "%RESPONSE_FLAGS%",
                "duration_ms": "%DURATION%",
                "rule": "%FILTER_STATE(wasm.tidegate.rule:PLAIN)%",
                "outcome": "%FILTER_STATE(wasm.tidegate.outcome:PLAIN)%",
                "at": "%FILTER_STATE(wasm.tidegate.at:PLAIN)%",
                "store": "%FILTER_STATE(wasm.tidegate.store:PLAIN)%",
            }},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovered_plugin_is_named_alike_in_listener_and_file() {
        let settings = Settings::new(([127, 0, 0, 1], 9).into(), vec![Filter::Discovered(Plugin::new("{}"))]);
        let folder = Path::new("/x");
        let bootstrap = settings.bootstrap(folder);
        let filters = &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
            ["http_filters"];
        assert_eq!(filters[0]["name"], "tidegate");
        assert_eq!(
            filters[0]["config_discovery"]["config_source"]["path_config_source"]["path"],
            "/x/ecds/tidegate.json"
        );
        assert_eq!(filters[1]["name"], "envoy.filters.http.router");
        assert_eq!(Plugin::new("{}").discovery_response()["resources"][0]["name"], "tidegate");
    }
}
