//! Checks of files as text: headers, length, white space, what may panic in shipped code, binaries, required files.
//! Not here: documents (`documents`) and what cargo knows (`crates`).

use std::path::Path;

use super::{Finding, Tree};

/// A Rust file longer than this holds two ideas.
const MAX_LINES: usize = 600;

/// Code that ships inside the proxy: a panic there ends the VM for everybody.
const SHIPPED: [&str; 3] = ["plugin/engine/src", "plugin/filter/src", "plugin/src"];

/// What panics, with what to write instead. Indexing is clippy's `indexing_slicing`.
const PANICS: [(&str, &str); 9] = [
    (".unwrap()", "match, `?` or a default"),
    (".expect(", "match, `?` or a default"),
    (".unwrap_err()", "match"),
    (".expect_err(", "match"),
    ("panic!(", "an error value"),
    ("todo!(", "the code, or nothing"),
    ("unimplemented!(", "the code, or nothing"),
    ("unreachable!(", "a type that has no such case, or a safe answer"),
    (".get_unchecked", "`get`"),
];

/// The largest picture of the documentation, in bytes.
const MAX_PICTURE: usize = 150 * 1024;

/// Files that must be there.
const REQUIRED: [&str; 7] =
    ["LICENSE", "deny.toml", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in REQUIRED.iter().filter(|file| !tree.has(file)) {
        findings.push(Finding::new(*file, 0, "is missing"));
    }
    for file in &tree.files {
        let bytes = std::fs::read(tree.root.join(file)).unwrap_or_default();
        if is_picture(file) && bytes.len() > MAX_PICTURE {
            let message = format!("has {} bytes, allowed are {MAX_PICTURE}; compress it", bytes.len());
            findings.push(Finding::new(file, 0, message));
        } else if bytes.contains(&0) && !is_picture(file) {
            findings.push(Finding::new(file, 0, "is a binary; build or fetch it instead of committing it"));
        }
    }
    for (file, text) in tree.texts("rs") {
        check_text(file, &text, &mut findings);
        let is_test = file.file_stem().is_some_and(|stem| stem == "tests")
            || file.components().any(|part| part.as_os_str() == "tests");
        if SHIPPED.iter().any(|folder| file.starts_with(folder)) && !is_test {
            check_panics(file, &text, &mut findings);
        }
        if !file.starts_with("plugin/filter") && !file.starts_with("xtask") && names_hostcalls(&text) {
            findings.push(Finding::new(file, 0, "names proxy_wasm::hostcalls; only plugin/filter may"));
        }
    }
    findings
}

/// Pictures are no product of a build: the documentation shows them.
fn is_picture(file: &Path) -> bool {
    file.starts_with("docs/pictures") && file.extension().is_some_and(|extension| extension == "png")
}

fn check_text(file: &Path, text: &str, findings: &mut Vec<Finding>) {
    if !text.starts_with("//!") {
        findings.push(Finding::new(file, 1, "should begin with `//!` and one sentence on what is in it"));
    }
    let count = text.lines().count();
    if count > MAX_LINES {
        findings.push(Finding::new(file, 0, format!("has {count} lines, allowed are {MAX_LINES}; split it by ideas")));
    }
    for (index, line) in text.lines().enumerate() {
        let number = index.saturating_add(1);
        if line.ends_with([' ', '\t']) {
            findings.push(Finding::new(file, number, "ends with white space"));
        }
        if line.contains('\t') {
            findings.push(Finding::new(file, number, "has a tab"));
        }
    }
}

fn check_panics(file: &Path, text: &str, findings: &mut Vec<Finding>) {
    for (number, line) in shipped_lines(text) {
        let code = line.trim_start();
        // What is computed while compiling cannot fail later.
        if code.starts_with("//") || code.starts_with("const ") || code.contains(" const ") {
            continue;
        }
        let code = code.split(" // ").next().unwrap_or(code);
        for (what, instead) in PANICS.iter().filter(|(what, _)| code.contains(what)) {
            findings.push(Finding::new(file, number, format!("`{what}` in shipped code; use {instead}")));
        }
    }
}

/// The numbered lines that are not under `#[cfg(test)]`. Relies on rustfmt: an item ends at its own indentation.
fn shipped_lines(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push((number, line));
            continue;
        }
        let indentation = line.len().saturating_sub(line.trim_start().len());
        for (_, line) in lines.by_ref() {
            let is_outermost = line.len().saturating_sub(line.trim_start().len()) == indentation;
            let code = line.trim();
            if is_outermost
                && !code.starts_with("#[")
                && (code.ends_with(';') || code.starts_with('}') || code.ends_with('}'))
            {
                break;
            }
        }
    }
    kept
}

fn names_hostcalls(text: &str) -> bool {
    text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("proxy_wasm::hostcalls"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    fn messages(files: &[(&str, &[u8])]) -> Vec<String> {
        let (_folder, tree) = tree(files);
        let all = check(&tree);
        all.iter().map(ToString::to_string).filter(|message| !message.ends_with("is missing")).collect()
    }

    #[test]
    fn a_good_file_has_no_findings() {
        let good = b"//! What.\nfn a() -> Option<u8> {\n    None\n}\n\n#[cfg(test)]\nmod tests {\n    fn t() {\n        a().unwrap();\n    }\n}\n";
        assert_eq!(messages(&[("plugin/engine/src/a.rs", good)]), Vec::<String>::new());
    }

    #[test]
    fn each_fault_of_a_file_is_found_with_its_line() {
        let found = messages(&[("x/a.rs", b"fn a() {} \n\tb();\n")]);
        assert_eq!(
            found,
            [
                "x/a.rs:1: should begin with `//!` and one sentence on what is in it",
                "x/a.rs:1: ends with white space",
                "x/a.rs:2: has a tab",
            ]
        );
        let long = format!("//! Long.\n{}", "fn a() {}\n".repeat(600));
        assert_eq!(
            messages(&[("x/a.rs", long.as_bytes())]),
            ["x/a.rs: has 601 lines, allowed are 600; split it by ideas"]
        );
    }

    #[test]
    fn panics_are_found_in_shipped_code_only_and_after_tests_too() {
        let text = b"//! A.\n#[cfg(test)]\nmod tests;\nfn a() {\n    b().unwrap();\n    // c.unwrap()\n}\nconst N: u8 = f().unwrap();\n#[cfg(test)]\nfn only_tests() {\n    panic!();\n}\nfn d() {\n    todo!()\n}\n";
        let found = messages(&[
            ("plugin/filter/src/a.rs", text),
            ("plugin/engine/src/x/tests.rs", text),
            ("cli/src/a.rs", text),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("plugin/filter/src/a.rs:5: `.unwrap()`"), "{found:?}");
        assert!(found[1].starts_with("plugin/filter/src/a.rs:14: `todo!(`"), "{found:?}");
    }

    #[test]
    fn binaries_and_missing_files_are_found() {
        let (_folder, tree) = tree(&[("LICENSE", b"x"), ("a.wasm", b"\0asm")]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert!(found.contains(&"deny.toml: is missing".to_owned()), "{found:?}");
        assert!(!found.contains(&"LICENSE: is missing".to_owned()), "{found:?}");
        assert!(found.iter().any(|message| message.starts_with("a.wasm: is a binary")), "{found:?}");
    }

    #[test]
    fn pictures_of_the_documentation_are_small() {
        let large = vec![0; MAX_PICTURE + 1];
        let found = messages(&[("docs/pictures/a.png", b"\0"), ("docs/pictures/b.png", &large), ("docs/c.png", b"\0")]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("docs/pictures/b.png: has 153601 bytes"), "{found:?}");
        assert!(found[1].starts_with("docs/c.png: is a binary"), "{found:?}");
    }

    #[test]
    fn only_the_filter_names_host_calls() {
        let text = b"//! A.\nuse proxy_wasm::hostcalls;\n";
        assert_eq!(messages(&[("plugin/filter/src/a.rs", text)]).len(), 0);
        assert_eq!(messages(&[("plugin/src/lib.rs", text)]).len(), 1);
    }
}
