//! The dashboard as a file: its panels, queries and variables, and what can be checked of them without a server.
//! Not here: what its queries find (`queries`) and Grafana's types (`types`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use xtask::workspace;

/// The dashboard's text.
pub(crate) fn text() -> String {
    fs::read_to_string(workspace::root().join("examples/grafana/tidegate.json")).unwrap()
}

/// The dashboard.
pub(crate) fn json() -> Value {
    serde_json::from_str(&text()).unwrap()
}

/// An array's elements; none where it is missing.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A member that must be text.
pub(crate) fn word<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {value}"))
}

/// A query of a panel.
pub(crate) struct Query {
    /// The panel's title and the query's letter.
    pub(crate) place: String,
    pub(crate) expression: String,
    /// Labels that the legend or a link of the panel names.
    pub(crate) labels: BTreeSet<String>,
}

/// Every query of every panel.
pub(crate) fn queries(dashboard: &Value) -> Vec<Query> {
    let of_panel = |panel: &Value| {
        let links = panel["fieldConfig"].to_string();
        let linked: BTreeSet<String> = between(&links, "${__field.labels.", "}").collect();
        let query = move |target: &Value, title: &str| Query {
            place: format!("panel {title:?}, query {}", word(target, "refId")),
            expression: word(target, "expr").to_owned(),
            labels: between(word(target, "legendFormat"), "{{", "}}").chain(linked.iter().cloned()).collect(),
        };
        list(&panel["targets"]).iter().map(|target| query(target, word(panel, "title"))).collect::<Vec<Query>>()
    };
    list(&dashboard["panels"]).iter().flat_map(of_panel).collect()
}

/// Every piece of a text that stands between these two.
fn between<'t>(text: &'t str, start: &'t str, end: &'t str) -> impl Iterator<Item = String> + 't {
    text.split(start).skip(1).filter_map(move |rest| Some(rest.split_once(end)?.0.to_owned()))
}

/// The names of the variables in a text, as `$name` or `${name}`.
fn variables(text: &str) -> BTreeSet<String> {
    let names = text.split('$').skip(1).filter_map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        Some(rest[..end].to_owned()).filter(|name| !name.is_empty())
    });
    names.collect()
}

#[test]
fn every_variable_is_declared_and_used() {
    let dashboard = json();
    let declared: BTreeSet<String> =
        list(&dashboard["templating"]["list"]).iter().map(|one| word(one, "name").to_owned()).collect();
    // Grafana's own: the interval and range of time, the series and the cell that a link belongs to, "all".
    let own = ["__rate_interval", "__range", "__field", "__value", "__all"];
    let used: BTreeSet<String> = variables(&text()).into_iter().filter(|name| !own.contains(&name.as_str())).collect();
    assert_eq!(declared, used);
    assert_eq!(variables("$a ${b:csv} $$c ${d.e}"), ["a", "b", "c", "d"].map(str::to_owned).into());
}

#[test]
fn every_panel_has_an_id_and_a_place_of_its_own() {
    let dashboard = json();
    let mut ids = BTreeSet::new();
    let mut taken: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for panel in list(&dashboard["panels"]) {
        let title = word(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another panel's");
        let of = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(of("x") + of("w") <= 24 && of("w") > 0 && of("h") > 0, "{title}: outside of 24 columns");
        for cell in (of("x")..of("x") + of("w")).flat_map(|x| (of("y")..of("y") + of("h")).map(move |y| (x, y))) {
            if let Some(other) = taken.insert(cell, title.to_owned()) {
                panic!("{title} lies over {other}");
            }
        }
    }
    let rows = taken.keys().map(|(_, y)| y).max().unwrap() + 1;
    assert_eq!(taken.len() as u64, rows * 24, "there are holes");
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit() {
    let dashboard = json();
    // Grafana's names of units that this dashboard uses; one that it does not know would be shown as a suffix.
    let units = ["reqps", "ops", "cps", "percentunit", "short", "µs", "ms", "bytes", "string"];
    for panel in list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row") {
        let title = word(panel, "title");
        assert!(word(panel, "description").ends_with('.'), "{title}: no description");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        if panel["type"] == "text" {
            continue;
        }
        let defaults = &panel["fieldConfig"]["defaults"];
        assert!(units.contains(&word(defaults, "unit")), "{title}: {}", defaults["unit"]);
        assert!(defaults["thresholds"]["steps"][0]["value"].is_null(), "{title}: the first threshold has no start");
        let ids: BTreeSet<&str> = list(&panel["targets"]).iter().map(|target| word(target, "refId")).collect();
        assert_eq!(ids.len(), list(&panel["targets"]).len(), "{title}: queries share a letter");
        assert!(!ids.is_empty(), "{title}: nothing is asked");
        for target in list(&panel["targets"]) {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
        assert_columns_exist(panel, &ids);
    }
}

/// What transformations and overrides of a table name must be there.
fn assert_columns_exist(panel: &Value, ids: &BTreeSet<&str>) {
    let title = word(panel, "title");
    let organize = list(&panel["transformations"]).iter().find(|one| one["id"] == "organize");
    let renamed = organize.map(|one| one["options"]["renameByName"].as_object().unwrap().clone()).unwrap_or_default();
    for column in renamed.keys().filter_map(|column| column.strip_prefix("Value #")) {
        assert!(ids.contains(column), "{title}: no query {column}");
    }
    for matcher in list(&panel["fieldConfig"]["overrides"]).iter().map(|one| &one["matcher"]) {
        assert!(renamed.values().any(|name| *name == matcher["options"]), "{title}: no column {}", matcher["options"]);
    }
}

#[test]
fn every_link_to_the_docs_leads_to_a_headline() {
    let text = text();
    let mut count = 0;
    for link in between(&text, "${docs}/", "\"").map(|rest| rest.split(')').next().unwrap_or_default().to_owned()) {
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let page =
            fs::read_to_string(workspace::root().join("docs").join(file)).unwrap_or_else(|_| panic!("no {file}"));
        let mut anchors = page.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').map(slug));
        assert!(anchor.is_empty() || anchors.any(|known| known == anchor), "no headline for {link}");
        count += 1;
    }
    assert!(count > 20);
}

/// A headline's anchor, as Git hosts make it.
fn slug(headline: &str) -> String {
    let kept = headline
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .collect::<String>();
    kept.replace(' ', "-")
}
