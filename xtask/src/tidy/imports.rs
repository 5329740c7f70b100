//! Checks what the .wasm asks of its host against a golden list: a new import is a host that no longer loads it.
//! Not here: how often each is called, which host-test counts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use wasmparser::{Parser, Payload};

use super::{Finding, Report};
use crate::workspace;

/// The list: one `module.name` a line, sorted.
const GOLDEN: &str = "host-test/golden/imports.txt";

pub(super) fn check(root: &Path, report: &mut Report) -> Result<()> {
    let file = root.join("dist/tidegate.wasm");
    if !file.is_file() {
        let missing = "is not built, so nobody has looked at its imports; `cargo xtask build` makes it";
        if workspace::is_ci() {
            report.findings.push(Finding::new("dist/tidegate.wasm", 0, missing));
        } else {
            report.not_looked_at.push(format!("dist/tidegate.wasm {missing}"));
        }
        return Ok(());
    }
    let bytes = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let imports = imports(&bytes).with_context(|| format!("parsing {}", file.display()))?;
    let golden = fs::read_to_string(root.join(GOLDEN)).ok();
    report.findings.extend(compare(&imports, golden.as_deref()));
    report.looked_at.push(format!("dist/tidegate.wasm: its {} imports", imports.len()));
    Ok(())
}

/// What a module imports, as `module.name`.
///
/// # Errors
/// When the bytes are not a module.
fn imports(module: &[u8]) -> Result<BTreeSet<String>> {
    let mut imports = BTreeSet::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ImportSection(section) = payload? {
            for import in section.into_imports() {
                let import = import?;
                imports.insert(format!("{}.{}", import.module, import.name));
            }
        }
    }
    Ok(imports)
}

fn compare(imports: &BTreeSet<String>, golden: Option<&str>) -> Vec<Finding> {
    let Some(golden) = golden else {
        let list: Vec<&str> = imports.iter().map(String::as_str).collect();
        let message = format!("is missing; the .wasm imports:\n{}", list.join("\n"));
        return vec![Finding::new(GOLDEN, 0, message)];
    };
    let golden: BTreeSet<String> = golden.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let added = imports.difference(&golden).map(|name| format!("the .wasm now imports {name}; do all hosts have it?"));
    let gone = golden.difference(imports).map(|name| format!("the .wasm no longer imports {name}; remove the line"));
    added.chain(gone).map(|message| Finding::new(GOLDEN, 0, message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one import, `env.f`, written by hand: type section (one function without anything), then imports.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x09\x01\x03env\x01f\0\0";

    #[test]
    fn imports_are_read_from_the_module() {
        assert_eq!(imports(MODULE).unwrap(), BTreeSet::from(["env.f".to_owned()]));
        assert!(imports(b"\0asm").is_err());
    }

    #[test]
    fn what_is_new_and_what_is_gone_is_found() {
        let imports = BTreeSet::from(["env.a".to_owned(), "env.b".to_owned()]);
        assert_eq!(compare(&imports, Some("env.a\nenv.b\n")), []);
        let found = compare(&imports, Some("env.b\nenv.c\n"));
        assert_eq!(found.len(), 2);
        assert!(found[0].message.contains("imports env.a") && found[1].message.contains("env.c"), "{found:?}");
        assert!(compare(&imports, None)[0].message.contains("is missing"));
    }
}
