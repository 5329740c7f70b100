//! The examples are what they say: YAML that parses, policies that the engine takes, a configuration that Envoy takes
//! and that verifies tokens and limits, an image whose parts are there.
//! Not here: a cluster with Istio or Envoy Gateway, and Docker; what is for them is checked for form only.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::Policy;
use xtask::envoy::{Envoy, fetch};
use xtask::load::{Client, Request};
use xtask::tools::IfMissing;
use xtask::upstream::Upstream;
use xtask::{skip, workspace};

/// All documents of all YAML files under a folder of the examples.
fn documents(folder: &str) -> Vec<(PathBuf, Value)> {
    let folder = workspace::root().join("examples").join(folder);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.map(|file| (file.clone(), yaml(&fs::read_to_string(&file).unwrap(), &file))).collect()
}

fn yaml(text: &str, file: &Path) -> Value {
    serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The policies in the examples, with the file that each is in.
fn policies() -> Vec<(PathBuf, Value)> {
    let mut policies = Vec::new();
    for (file, document) in documents("envoy") {
        if let Some(text) = document["resources"][0]["typed_config"]["config"]["configuration"]["value"].as_str() {
            let policy = serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            policies.push((file, policy));
        }
    }
    for (file, document) in documents("istio") {
        if document["kind"] == "WasmPlugin" {
            policies.push((file, document["spec"]["pluginConfig"].clone()));
        }
    }
    for (file, document) in documents("envoy-gateway") {
        if document["kind"] == "EnvoyExtensionPolicy" {
            policies.push((file, document["spec"]["wasm"][0]["config"].clone()));
        }
    }
    policies
}

/// The policy, which the engine must take without a warning.
fn taken(policy: &str, place: &str) -> Policy {
    let policy = Policy::parse(policy.as_bytes(), &Catalogue::builtin());
    let policy = policy.unwrap_or_else(|mistakes| panic!("{place}: {mistakes}"));
    assert!(policy.warnings.is_empty(), "{place}: {:?}", policy.warnings);
    policy
}

#[test]
fn the_engine_takes_each_policy() {
    let policies = policies();
    assert_eq!(policies.len(), 5, "one for Envoy, three for Istio, one for Envoy Gateway");
    for (file, policy) in policies {
        taken(&policy.to_string(), &file.display().to_string());
    }
}

#[test]
fn the_engine_takes_each_policy_of_the_page_on_migrating() {
    let page = fs::read_to_string(workspace::root().join("docs/migrating.md")).unwrap();
    let blocks: Vec<&str> = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 7, "{} policies, one for each that people come from", blocks.len());
    for block in blocks {
        taken(block, block);
    }
}

#[test]
fn each_resource_has_a_kind_that_its_controller_knows() {
    let documents: Vec<_> = documents("istio").into_iter().chain(documents("envoy-gateway")).collect();
    assert_eq!(documents.len(), 8);
    for (file, document) in documents {
        let kind = (document["apiVersion"].as_str().unwrap(), document["kind"].as_str().unwrap());
        let known = [
            ("extensions.istio.io/v1alpha1", "WasmPlugin"),
            ("gateway.envoyproxy.io/v1alpha1", "EnvoyExtensionPolicy"),
            ("gateway.envoyproxy.io/v1alpha1", "EnvoyProxy"),
            ("networking.istio.io/v1", "DestinationRule"),
            ("networking.istio.io/v1alpha3", "EnvoyFilter"),
            ("security.istio.io/v1", "RequestAuthentication"),
        ];
        assert!(known.contains(&kind), "{}: {kind:?}", file.display());
        assert!(document["metadata"]["name"].is_string() && document["spec"].is_object(), "{}", file.display());
    }
}

/// What the example for Envoy Gateway merges into the bootstrap of its Envoys.
fn merged_by_envoy_gateway() -> Value {
    let (file, resource) = documents("envoy-gateway").into_iter().find(|(_, it)| it["kind"] == "EnvoyProxy").unwrap();
    assert_eq!(resource["spec"]["bootstrap"]["type"], "Merge");
    yaml(resource["spec"]["bootstrap"]["value"].as_str().unwrap(), &file)
}

/// `SERVICE.NAMESPACE` and port under which `kubernetes.yaml` makes the gateway to Redis known.
fn gateway_service() -> (String, u64) {
    let text = fs::read_to_string(workspace::root().join("examples/redis/kubernetes.yaml")).unwrap();
    let documents = text.split("\n---\n").map(|document| yaml(document, Path::new("kubernetes.yaml")));
    let service = documents.into_iter().find(|it| it["kind"] == "Service").unwrap();
    let name = service["metadata"]["name"].as_str().unwrap();
    (format!("{name}.tidegate.svc.cluster.local"), service["spec"]["ports"][0]["port"].as_u64().unwrap())
}

#[test]
fn stores_in_kubernetes_name_the_service_of_the_redis_example() {
    let (host, port) = gateway_service();
    let stores: Vec<Value> = policies().into_iter().map(|(_, policy)| policy["store"].clone()).collect();
    let clusters: Vec<&str> = stores.iter().filter_map(|store| store["cluster"].as_str()).collect();
    assert_eq!(clusters, [&format!("outbound|{port}||{host}"), "redis_gateway"]);
    assert!(stores.iter().all(|store| store.is_null() || store["authority"] == *host), "{stores:?}");

    let cluster = &merged_by_envoy_gateway()["static_resources"]["clusters"][0];
    let endpoint = &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    let address = &endpoint["address"]["socket_address"];
    assert_eq!((cluster["name"].as_str(), address["port_value"].as_u64()), (Some("redis_gateway"), Some(port)));
    assert_eq!(address["address"], *host);
    let rules = documents("istio").into_iter().filter(|(_, it)| it["kind"] == "DestinationRule");
    assert!(rules.into_iter().all(|(_, rule)| rule["spec"]["host"] == *host));
}

#[test]
fn envoy_takes_what_the_example_for_envoy_gateway_merges() {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = folder.path().join("bootstrap.json");
    fs::write(&bootstrap, merged_by_envoy_gateway().to_string()).unwrap();
    let mut command = Command::new(fetch::binary(IfMissing::Install).unwrap());
    let output = command.args(["--mode", "validate", "--config-path"]).arg(bootstrap).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_image_of_the_gateway_is_built_from_what_there_is() {
    let text = fs::read_to_string(workspace::root().join("examples/redis/Dockerfile")).unwrap();
    let words = |instruction: &str| -> Vec<&str> {
        let line = text.lines().find_map(|line| line.strip_prefix(instruction)).unwrap();
        line.split_whitespace().collect()
    };
    let manifest = fs::read_to_string(workspace::root().join("Cargo.toml")).unwrap();
    let (_, rust) = manifest.split_once("rust-version = \"").unwrap();
    let (rust, _) = rust.split_once('"').unwrap();
    assert!(
        words("FROM ")[0].starts_with(&format!("rust:{rust}-")),
        "{:?}, the workspace wants {rust}",
        words("FROM ")
    );

    let package = words("RUN cargo build --locked --release -p ")[0];
    let built = words("COPY --from=build ");
    let (from, to) = (built[0], built[1]);
    assert_eq!(from, format!("{}/target/release/{package}", words("WORKDIR ")[0]));
    let gateway = fs::read_to_string(workspace::root().join("plugin/gateway/Cargo.toml")).unwrap();
    assert!(gateway.contains(&format!("name = \"{package}\"")), "{package} is no package of plugin/gateway");
    assert!(text.ends_with(&format!("ENTRYPOINT [\"{to}\"]\n")));
    assert_eq!(words("EXPOSE "), [gateway_service().1.to_string()]);
}

#[test]
fn the_examples_and_the_tests_make_the_same_metric_labels() {
    let all: Vec<Value> =
        documents("envoy").into_iter().chain(documents("istio")).map(|(_, document)| document).collect();
    let of_envoy = all.iter().find_map(|it| it.get("stats_config")).unwrap();
    let of_istio = all.iter().find(|it| it["kind"] == "EnvoyFilter").unwrap();
    assert_eq!(of_envoy, &of_istio["spec"]["configPatches"][1]["patch"]["value"]["stats_config"]);
    assert_eq!(of_envoy, &merged_by_envoy_gateway()["stats_config"]);
    assert_eq!(of_envoy["stats_tags"], xtask::envoy::config::stats_tags());
}

/// The example with free ports and this upstream, in a folder laid out like the checkout.
fn with_free_ports(folder: &Path, upstream: &Upstream) -> PathBuf {
    let example = workspace::root().join("examples/envoy");
    let text = fs::read_to_string(example.join("envoy.yaml")).unwrap();
    let upstream_port = format!("port_value: {}", upstream.address().port());
    let ports = [
        ("port_value: 9901", "port_value: 0"),
        ("port_value: 10000", "port_value: 0"),
        ("port_value: 8080", &upstream_port),
    ];
    let text = ports.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "the example should have {from}");
        text.replace(from, to)
    });
    fs::create_dir_all(folder.join("examples/envoy")).unwrap();
    fs::create_dir_all(folder.join("dist")).unwrap();
    fs::copy(example.join("tidegate.yaml"), folder.join("examples/envoy/tidegate.yaml")).unwrap();
    let bootstrap = folder.join("examples/envoy/envoy.yaml");
    fs::write(&bootstrap, text).unwrap();
    bootstrap
}

#[test]
fn envoy_takes_the_configuration_as_it_is() {
    let envoy = fetch::binary(IfMissing::Install).unwrap();
    let mut command = Command::new(envoy);
    command.current_dir(workspace::root()).args(["--mode", "validate", "--config-path", "examples/envoy/envoy.yaml"]);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!errors.to_lowercase().contains("deprecated"), "{errors}");
}

#[test]
fn the_example_serves_verifies_tokens_and_limits() {
    let wasm = workspace::wasm_file();
    if !wasm.is_file() {
        return skip::tell("xtask: examples/envoy", "dist/tidegate.wasm is not built; run `cargo xtask build`");
    }
    let upstream = Upstream::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = with_free_ports(folder.path(), &upstream);
    fs::copy(wasm, folder.path().join("dist/tidegate.wasm")).unwrap();
    let envoy = Envoy::start_file(&fetch::binary(IfMissing::Install).unwrap(), &bootstrap, folder.path()).unwrap();
    let address = format!("127.0.0.1:{}", envoy.address("main").unwrap().port()).parse().unwrap();
    let client = Client::http1(address, 1).unwrap();
    let token = fs::read_to_string(workspace::root().join("examples/envoy/alice.jwt")).unwrap();
    let as_alice = |path: &str, token: &str| {
        client.send(&Request::get(path).header("authorization", format!("Bearer {}", token.trim()))).unwrap()
    };
    assert_eq!(as_alice("/", &token).status, 200);
    assert_eq!(as_alice("/", &token.replace("eyJpc3M", "eyJpc3N")).status, 401);
    assert_eq!(client.send(&Request::get("/").header("x_user_id", "bob")).unwrap().status, 400);

    let statuses: Vec<u16> = (0..11).map(|_| as_alice("/api/search", &token).status).collect();
    assert_eq!(statuses, [vec![200; 10], vec![429]].concat());
    assert_eq!(client.send(&Request::get("/api/search")).unwrap().status, 200, "others are not alice");
    let metrics = envoy.prometheus().unwrap();
    let labels = ["namespace=\"example\"", "rule=\"search_per_user\"", "outcome=\"limited\""];
    let line = metrics
        .lines()
        .find(|line| line.starts_with("tidegate_verdicts_total{") && labels.iter().all(|label| line.contains(label)));
    assert!(line.is_some_and(|line| line.ends_with(" 1")), "{line:?} of\n{metrics}");
}

#[test]
fn a_bad_policy_at_the_start_is_500_by_ecds_and_no_start_in_the_listener() {
    let wasm = workspace::wasm_file();
    if !wasm.is_file() {
        return skip::tell("xtask: a bad policy", "dist/tidegate.wasm is not built; run `cargo xtask build`");
    }
    let upstream = Upstream::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = with_free_ports(folder.path(), &upstream);
    fs::copy(wasm, folder.path().join("dist/tidegate.wasm")).unwrap();
    let filter = bootstrap.with_file_name("tidegate.yaml");
    let good = fs::read_to_string(&filter).unwrap();
    let bad = good.replace("\"rate\": 1000", "\"rate\": 0");
    assert_ne!(good, bad);
    fs::write(&filter, &bad).unwrap();
    let binary = fetch::binary(IfMissing::Install).unwrap();

    let envoy = Envoy::start_file(&binary, &bootstrap, folder.path()).unwrap();
    let address = format!("127.0.0.1:{}", envoy.address("main").unwrap().port()).parse().unwrap();
    let status = || Client::http1(address, 1).unwrap().send(&Request::get("/")).unwrap().status;
    assert_eq!(status(), 500);
    let next = bootstrap.with_file_name("next");
    fs::write(&next, &good).unwrap();
    fs::rename(&next, &filter).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while status() != 200 {
        assert!(Instant::now() < until, "a good policy is not taken after a bad one");
        sleep(Duration::from_millis(50));
    }
    drop(envoy);

    let mut in_listener = yaml(&fs::read_to_string(&bootstrap).unwrap(), &bootstrap);
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    let filters = in_listener.pointer_mut(manager).unwrap().as_array_mut().unwrap();
    let ours = filters.iter_mut().find(|filter| filter["name"] == "tidegate").unwrap();
    *ours = yaml(&bad, &filter)["resources"][0].clone();
    ours.as_object_mut().unwrap().remove("@type");
    fs::write(&bootstrap, in_listener.to_string()).unwrap();
    let told = format!("{:#}", Envoy::start_file(&binary, &bootstrap, folder.path()).unwrap_err());
    assert!(told.contains("policy refused: /rules/0/rate"), "{told}");
}
