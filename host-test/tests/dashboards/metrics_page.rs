//! The tables of metrics in `docs/operating.md` against what a real Envoy shows: the same names, kinds and labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use xtask::workspace;

/// A metric's kind and its labels.
type Shape = (String, BTreeSet<String>);

/// Compares both ways: what is documented must be there, and what is ours must be documented. Names of Envoy's own that
/// the docs name must be there too.
pub(crate) fn compare(scrape: &str, findings: &mut Vec<String>) {
    let shown = shown(scrape);
    let documented = documented();
    assert!(documented.len() > 20, "the table was not found");
    for (name, shape) in &documented {
        match shown.get(name) {
            None => findings.push(format!("docs/operating.md: {name} is not in Envoy's answer")),
            Some(is) if is != shape => {
                findings.push(format!("docs/operating.md: {name} is said to be {shape:?}, and is {is:?}"));
            }
            Some(_) => {}
        }
    }
    let ours = shown.keys().filter(|name| name.starts_with("tidegate_") && !documented.contains_key(*name));
    findings.extend(ours.map(|name| format!("docs/operating.md does not tell of {name}")));
}

/// Every metric in Prometheus's text format.
fn shown(scrape: &str) -> BTreeMap<String, Shape> {
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut shown: BTreeMap<String, Shape> =
        types.map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new()))).collect();
    for (series, labels) in scrape.lines().filter_map(|line| line.split_once('}')?.0.split_once('{')) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
        let name = base.filter(|base| shown.contains_key(*base)).unwrap_or(series);
        if let Some((_, known)) = shown.get_mut(name) {
            let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            known.extend(names.filter(|label| label != "le"));
        }
    }
    shown
}

/// The rows `| names | kind | labels | ...` of the page, every name in backticks.
fn documented() -> BTreeMap<String, Shape> {
    let page = fs::read_to_string(workspace::root().join("docs/operating.md")).unwrap();
    let mut documented = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, names, kind @ ("counter" | "gauge" | "histogram"), labels, ..] = cells.as_slice() else { continue };
        let code = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<String>>();
        for name in code(names) {
            documented.insert(name, ((*kind).to_owned(), code(labels)));
        }
    }
    documented
}

#[test]
fn kinds_and_labels_are_read() {
    let scrape = "# TYPE a_total counter\na_total{x=\"1\",y=\"2,z\"} 3\n# TYPE h histogram\nh_bucket{n=\"q\",le=\"5\"} 1\nh_sum{n=\"q\"} 2\n";
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let wanted = [("a_total", ("counter", set(&["x", "y"]))), ("h", ("histogram", set(&["n"])))];
    assert_eq!(shown(scrape), wanted.map(|(name, (kind, labels))| (name.to_owned(), (kind.to_owned(), labels))).into());
}
