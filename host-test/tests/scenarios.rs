//! Every scenario file, run by the engine natively and by the .wasm with one worker and with three: all must agree to the
//! byte, and with what the file expects.

// Only `#[test]` functions may by themselves.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "with_wasm/tidegate.rs"]
mod tidegate;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidegate::module_or_skip;
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::scenario::Scenario;
use tidegate_host_test::Module;

struct File {
    name: String,
    scenario: Scenario,
    policy: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// All scenario files, or the one named by `TIDEGATE_SCENARIO`.
fn files() -> Vec<File> {
    let only = std::env::var("TIDEGATE_SCENARIO").ok();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| only.as_ref().is_none_or(|only| path.file_stem().is_some_and(|stem| *stem == **only)));
    paths.sort();
    assert!(!paths.is_empty(), "there are scenarios");
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> File {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(path.extension().unwrap(), "json", "{name}: scenarios are JSON");
    let text = std::fs::read_to_string(path).unwrap();
    let scenario = Scenario::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let beside = |file: &str| std::fs::read_to_string(folder().join(file)).map_err(|error| format!("{file}: {error}"));
    let policy = scenario.policy_text(beside).unwrap_or_else(|error| panic!("{name}: {error}"));
    File { name, scenario, policy }
}

/// What is wrong with a scenario, line by line; nothing where all is well.
fn faults(file: &File, module: Option<&Module>) -> Vec<String> {
    let File { scenario, policy, .. } = file;
    let native = match scenario.run(policy, &Catalogue::builtin()) {
        Ok(native) => native,
        Err(error) => return vec![format!("native: {error}")],
    };
    let mut faults = scenario.differences(&native);
    for workers in [1, 3] {
        let Some(module) = module else { continue };
        match tidegate_host_test::scenario::run(scenario, policy, module, workers) {
            Err(error) => faults.push(format!(".wasm, {workers} workers: {error}")),
            Ok(wasm) => {
                assert_eq!(wasm.len(), native.len());
                let pairs = native.iter().zip(&wasm).enumerate();
                faults.extend(pairs.filter(|(_, (native, wasm))| native != wasm).map(|(number, (native, wasm))| {
                    format!(
                        ".wasm, {workers} workers, request number {number}:\n  native {native:?}\n  .wasm  {wasm:?}"
                    )
                }));
                let unmet = scenario.differences(&wasm);
                faults.extend(unmet.into_iter().map(|fault| format!(".wasm, {workers} workers, {fault}")));
            }
        }
    }
    faults.into_iter().map(|fault| format!("{}: {fault}", file.name)).collect()
}

fn assert_all_is_well(module: Option<&Module>) {
    let faults: Vec<String> = files().iter().flat_map(|file| faults(file, module)).collect();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_scenario_gets_what_it_expects_from_the_engine() {
    assert_all_is_well(None);
}

#[test]
fn every_scenario_gets_the_same_to_the_byte_from_the_wasm() {
    assert_all_is_well(Some(&module_or_skip!()));
}

#[test]
fn every_request_of_a_scenario_expects_something() {
    for file in files() {
        for (index, request) in file.scenario.requests.iter().enumerate() {
            let expect = &request.expect;
            let nothing = expect.outcome.is_none()
                && expect.status.is_none()
                && expect.rule.is_none()
                && expect.headers.is_empty()
                && expect.body_has.is_none();
            assert!(!nothing, "{}: request {index}", file.name);
        }
    }
}

#[test]
fn every_shipped_policy_has_a_scenario() {
    if std::env::var_os("TIDEGATE_SCENARIO").is_some() {
        return;
    }
    let used: BTreeSet<String> =
        files().iter().filter_map(|file| file.scenario.policy.as_str().map(str::to_owned)).collect();
    for entry in std::fs::read_dir(folder().join("../../policies")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        // A scenario has no store elsewhere: what a fleet shares is tested with a real one, beside the gateway.
        let is_shared = std::fs::read_to_string(&path).unwrap().contains("\"type\": \"redis\"");
        if path.extension().is_some_and(|extension| extension == "json") && name != "schema.json" && !is_shared {
            assert!(used.contains(&format!("../../policies/{name}")), "no scenario shows policies/{name}");
        }
    }
}

/// A scenario whose one request gets 200 with `r=0`, and expects `expect`.
fn expecting(expect: &str) -> File {
    let rule = tidegate::rule("one", "global", 1, 60, "");
    let text = format!(
        r#"{{"description": "d", "policy": {}, "requests": [{{"expect": {expect}}}]}}"#,
        tidegate::policy(&rule)
    );
    let scenario = Scenario::parse(&text).unwrap();
    let policy = scenario.policy_text(|_| Err("no files".to_owned())).unwrap();
    File { name: "made".to_owned(), scenario, policy }
}

#[test]
fn a_wrong_expectation_fails_natively_and_in_the_wasm() {
    let module = module_or_skip!();
    let right = r#"{"outcome": "allowed", "rule": "one", "headers": {"ratelimit": "\"one\";r=0;t=60", "x": null}}"#;
    assert_eq!(faults(&expecting(right), Some(&module)), [""; 0]);
    for (wrong, told) in [
        (r#"{"outcome": "limited"}"#, "outcome: expected Some(\"limited\"), found Some(\"allowed\")"),
        (r#"{"status": 429}"#, "status: expected Some(\"429\"), found None"),
        (r#"{"rule": "two"}"#, "rule: expected Some(\"two\"), found Some(\"one\")"),
        (r#"{"headers": {"ratelimit": "\"one\";r=1;t=60"}}"#, "r=0"),
        (r#"{"headers": {"ratelimit": null}}"#, "ratelimit: expected None"),
        (r#"{"body_has": "x"}"#, "body: expected \"x\""),
    ] {
        let found = faults(&expecting(wrong), Some(&module));
        assert_eq!(found.len(), 3, "native, one worker, three workers: {found:?}");
        assert!(found.iter().all(|fault| fault.contains(told)), "{wrong}: {found:?}");
    }
}

#[test]
fn a_policy_that_is_refused_is_a_fault_with_its_messages() {
    let module = module_or_skip!();
    let mut file = expecting("{}");
    file.policy = file.policy.replace("\"rate\"", "\"rat\"");
    assert!(faults(&file, None)[0].contains("/rules/0/rat"));
    let error = tidegate_host_test::scenario::run(&file.scenario, &file.policy, &module, 1).unwrap_err();
    assert!(error.contains("policy refused: /rules/0/rat"), "{error}");
}
