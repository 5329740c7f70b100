//! The Prometheus configuration, rules and their tests as files: promtool takes all of them, and no rule is without a
//! test in which it fires and one in which it stays quiet.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xtask::workspace;

use crate::dashboard::{list, word};

fn folder() -> PathBuf {
    workspace::root().join("examples/prometheus")
}

fn yaml(file: &Path) -> Value {
    serde_yaml_ng::from_str(&fs::read_to_string(file).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// All YAML files of a folder of the example.
fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join(name)).unwrap().map(|one| one.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn promtool(words: &[&str], files: &[PathBuf]) -> Result<(), String> {
    let mut command = Command::new("promtool");
    command.args(words).args(files);
    let output = command.output().expect("starting promtool, which `cargo xtask test` installs with prometheus");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(told) }
}

#[test]
fn promtool_takes_configuration_and_rules() {
    promtool(&["check", "config"], &[folder().join("prometheus.yml")]).unwrap();
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files("rules")).unwrap();
    let named = yaml(&folder().join("prometheus.yml"));
    let named: BTreeSet<PathBuf> =
        list(&named["rule_files"]).iter().map(|file| folder().join(file.as_str().unwrap())).collect();
    assert_eq!(named, files("rules").into_iter().collect());
}

#[test]
fn every_rule_keeps_its_promise_in_promtools_tests() {
    promtool(&["test", "rules"], &files("tests")).unwrap();
    // And a promise that is not kept is noticed.
    let broken = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(folder().join("tests/limits.yml")).unwrap();
    let rules = folder().join("rules");
    let text = text.replace("../rules", rules.to_str().unwrap());
    let file = broken.path().join("limits.yml");
    fs::write(&file, &text).unwrap();
    promtool(&["test", "rules"], std::slice::from_ref(&file)).unwrap();
    fs::write(&file, text.replacen("0+60x30", "0+6x30", 1)).unwrap();
    assert!(promtool(&["test", "rules"], &[file]).is_err());
}

/// All rules of all files that have this member, by its value.
fn rules(kind: &str) -> Vec<Value> {
    let documents: Vec<Value> = files("rules").iter().map(|file| yaml(file)).collect();
    let groups = documents.iter().flat_map(|document| list(&document["groups"]));
    groups.flat_map(|group| list(&group["rules"])).filter(|rule| rule[kind].is_string()).cloned().collect()
}

/// Each expression in promtool's tests with what it should find.
fn expectations() -> Vec<(String, Vec<Value>)> {
    let documents: Vec<Value> = files("tests").iter().map(|file| yaml(file)).collect();
    let tests = documents.iter().flat_map(|document| list(&document["tests"]));
    let expressions = tests.flat_map(|test| list(&test["promql_expr_test"]));
    expressions.map(|one| (word(one, "expr").to_owned(), list(&one["exp_samples"]).to_vec())).collect()
}

#[test]
fn every_alert_fires_in_one_test_stays_quiet_in_another_and_says_what_to_do() {
    let expectations = expectations();
    let alerts = rules("alert");
    assert!(alerts.len() >= 15);
    for alert in &alerts {
        let name = word(alert, "alert");
        let asked = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
        let mine: Vec<_> = expectations.iter().filter(|(expression, _)| *expression == asked).collect();
        assert!(mine.iter().any(|(_, samples)| samples.is_empty()), "{name} never stays quiet");
        let fired: Vec<&Value> = mine.iter().flat_map(|(_, samples)| samples).collect();
        assert!(!fired.is_empty(), "{name} never fires");
        assert!(["critical", "warning", "info"].contains(&word(&alert["labels"], "severity")), "{name}");
        for annotation in ["summary", "description", "action"] {
            let text = word(&alert["annotations"], annotation);
            assert!(text.len() > 20, "{name}: {annotation}: {text}");
            for label in text.split("$labels.").skip(1).filter_map(|rest| rest.split(' ').next()) {
                let has_it = |sample: &&&Value| word(sample, "labels").contains(&format!("{label}=\""));
                assert_eq!(fired.iter().filter(has_it).count(), fired.len(), "{name}: {annotation} names {label}");
            }
        }
    }
}

#[test]
fn every_recording_rule_has_a_test_of_its_value() {
    let expectations = expectations();
    for rule in rules("record") {
        let name = word(&rule, "record");
        let is_tested = expectations.iter().any(|(expression, samples)| expression == name && !samples.is_empty());
        assert!(is_tested, "{name}");
    }
}
