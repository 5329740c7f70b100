//! The examples are what they say: YAML that parses, policies that the engine takes, a configuration that Envoy takes
//! and that verifies tokens and limits.
//! Not here: a cluster with Istio; its resources are checked for form only.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    policies
}

#[test]
fn the_engine_takes_each_policy() {
    let policies = policies();
    assert_eq!(policies.len(), 3, "one for Envoy, two for Istio");
    for (file, policy) in policies {
        let parsed = Policy::parse(policy.to_string().as_bytes(), &Catalogue::builtin());
        assert!(parsed.is_ok(), "{}: {}", file.display(), parsed.unwrap_err());
    }
}

#[test]
fn each_istio_resource_has_a_kind_that_istio_knows() {
    let documents = documents("istio");
    assert_eq!(documents.len(), 4);
    for (file, document) in documents {
        let kind = (document["apiVersion"].as_str().unwrap(), document["kind"].as_str().unwrap());
        let known = [
            ("extensions.istio.io/v1alpha1", "WasmPlugin"),
            ("networking.istio.io/v1alpha3", "EnvoyFilter"),
            ("security.istio.io/v1", "RequestAuthentication"),
        ];
        assert!(known.contains(&kind), "{}: {kind:?}", file.display());
        assert!(document["metadata"]["name"].is_string() && document["spec"].is_object(), "{}", file.display());
    }
}

#[test]
fn both_examples_and_the_tests_make_the_same_metric_labels() {
    let all: Vec<Value> =
        documents("envoy").into_iter().chain(documents("istio")).map(|(_, document)| document).collect();
    let of_envoy = all.iter().find_map(|it| it.get("stats_config")).unwrap();
    let of_istio = all.iter().find(|it| it["kind"] == "EnvoyFilter").unwrap();
    assert_eq!(of_envoy, &of_istio["spec"]["configPatches"][1]["patch"]["value"]["stats_config"]);
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
