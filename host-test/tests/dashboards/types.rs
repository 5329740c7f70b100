//! The dashboard against the types of Grafana's own package: the compiler refuses a wrong type and an unknown member.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use xtask::npm;
use xtask::tools::IfMissing;

use crate::dashboard::{self, list, word};

/// What comes before the dashboard. Grafana's enums become the text that stands in JSON.
const PRELUDE: &str = "
type Plain<T> = 0 extends 1 & T ? T
    : T extends string ? `${T}`
    : T extends number ? (`${T}` extends `${infer N extends number}` ? N : T)
    : T extends object ? { [K in keyof T]: Plain<T[K]> }
    : T;
import type { Dashboard } from '@grafana/schema';
";

/// The file of each kind of panel in the package.
const KINDS: [(&str, &str); 4] = [
    ("stat", "StatPanelCfg"),
    ("table", "TablePanelCfg"),
    ("text", "TextPanelCfg"),
    ("timeseries", "TimeSeriesPanelCfg"),
];

/// A TypeScript program that compiles where the dashboard is as Grafana wants it: as a whole, and each panel's options
/// and way of drawing by its kind.
fn program(dashboard: &Value) -> String {
    let kinds = BTreeMap::from(KINDS);
    let imports = kinds.iter().map(|(kind, file)| {
        let module = format!("@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{file}_types.gen");
        format!("import type * as {kind} from '{module}';")
    });
    let whole = format!("export const dashboard: Plain<Dashboard> = {dashboard:#};");
    let mut statements: Vec<String> = imports.chain([whole]).collect();
    for panel in list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row") {
        let (kind, id) = (word(panel, "type"), &panel["id"]);
        assert!(kinds.contains_key(kind), "{kind}: name its file in KINDS");
        let options = &panel["options"];
        statements.push(format!("export const options{id}: Plain<Partial<{kind}.Options>> = {options:#};"));
        if let Some(custom) = panel["fieldConfig"]["defaults"].get("custom") {
            statements.push(format!("export const custom{id}: Plain<Partial<{kind}.FieldConfig>> = {custom:#};"));
        }
    }
    format!("{PRELUDE}{}\n", statements.join("\n"))
}

/// What the compiler has against a program; empty where nothing.
fn complaints(program: &str) -> String {
    // Two tests at once must not install it twice.
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| npm::grafana_types(IfMissing::Install).unwrap());
    let folder = FOLDER.as_path();
    let place = tempfile::Builder::new().prefix("dashboard-").tempdir_in(folder).unwrap();
    let file = place.path().join("dashboard.ts");
    fs::write(&file, program).unwrap();
    let mut node = Command::new("node");
    node.arg(folder.join("node_modules/typescript/bin/tsc"));
    node.args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "preserve"]);
    let output = node.arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.success(), told.is_empty(), "{told}");
    told
}

#[test]
fn the_dashboard_is_of_grafanas_types() {
    assert_eq!(complaints(&program(&dashboard::json())), "");
}

#[test]
fn what_is_not_of_grafanas_types_is_refused() {
    let mut dashboard = dashboard::json();
    dashboard["refresh"] = 5.into();
    dashboard["panels"][1]["gridPos"]["x"] = "0".into();
    dashboard["panels"][1]["fieldConfig"]["defaults"]["thresholds"]["mode"] = "relative".into();
    dashboard["panels"][1]["options"]["colorMode"] = "loud".into();
    dashboard["templating"]["list"][0]["many"] = true.into();
    let told = complaints(&program(&dashboard));
    let faults = ["'number' is not assignable", "'string' is not assignable", "\"relative\"", "\"loud\"", "\"many\""];
    for fault in faults {
        assert!(told.contains(fault), "{fault} is not in\n{told}");
    }
}
