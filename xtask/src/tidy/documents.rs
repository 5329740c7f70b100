//! Checks of Markdown: commands that exist, links that lead somewhere, paths in ARCHITECTURE.md that are there, indexes
//! that leave nothing out.
//! Not here: whether what they say is true.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use clap::Parser as _;

use super::{Finding, Tree};
use crate::cli::Cli;

/// First parts of paths that are made by a build, and so need not exist.
const GENERATED: [&str; 2] = ["dist", "target"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in tree.texts("md") {
        check_commands(file, &text, &mut findings);
        check_links(tree, file, &text, &mut findings);
        if file == Path::new("ARCHITECTURE.md") {
            check_paths(tree, file, &text, &mut findings);
        }
        check_index(tree, file, &text, &mut findings);
    }
    findings
}

/// What nobody links to, nobody finds: README leads to each policy and example, docs/README.md to each page.
fn check_index(tree: &Tree, file: &Path, text: &str, findings: &mut Vec<Finding>) {
    let of_folder =
        |folder: &str| tree.files.iter().filter_map(|file| file.strip_prefix(folder).ok()).collect::<Vec<_>>();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    if file == Path::new("README.md") {
        let policies = of_folder("policies").into_iter().filter(|it| *it != Path::new("schema.json"));
        wanted.extend(policies.map(|policy| format!("](policies/{})", policy.display())));
        let examples = of_folder("examples").into_iter().filter_map(|it| it.iter().next());
        wanted.extend(examples.map(|example| format!("](examples/{}/", example.display())));
    } else if file == Path::new("docs/README.md") {
        let pages = of_folder("docs").into_iter().filter(|it| it.extension().is_some_and(|it| it == "md"));
        wanted.extend(pages.filter(|it| *it != Path::new("README.md")).map(|page| format!("]({})", page.display())));
    }
    for link in wanted.iter().filter(|link| !text.contains(link.as_str())) {
        let target = link.trim_start_matches("](").trim_end_matches(')');
        findings.push(Finding::new(file, 0, format!("has no link to {target}")));
    }
}

/// Every `cargo xtask ...` line in a shell block must be one that the command line takes.
fn check_commands(file: &Path, text: &str, findings: &mut Vec<Finding>) {
    let mut in_shell = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(language) = line.strip_prefix("```") {
            in_shell = !in_shell && matches!(language.trim(), "sh" | "bash" | "shell");
            continue;
        }
        let code = line.strip_prefix("$ ").unwrap_or(line);
        let Some(words) = code.strip_prefix("cargo xtask").filter(|_| in_shell) else {
            continue;
        };
        let words = words.split('#').next().unwrap_or(words).split_whitespace();
        let parsed = Cli::try_parse_from(std::iter::once("cargo xtask").chain(words));
        // `--help` is an "error" of clap's that prints the help.
        if let Err(error) = parsed.map_err(|error| error.kind())
            && error != clap::error::ErrorKind::DisplayHelp
        {
            findings.push(Finding::new(file, number, format!("`{code}` is not a command of xtask ({error})")));
        }
    }
}

/// Every relative link must lead to a file or folder of the checkout.
fn check_links(tree: &Tree, file: &Path, text: &str, findings: &mut Vec<Finding>) {
    let mut in_block = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            let target = link.split('#').next().unwrap_or(link);
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let Some(path) = within(file.parent().unwrap_or(Path::new("")), target) else {
                findings.push(Finding::new(file, number, format!("link {link} leads out of the checkout")));
                continue;
            };
            if !exists(tree, &path) {
                findings.push(Finding::new(file, number, format!("link {link} leads nowhere")));
            }
        }
    }
}

/// Every backticked word with a slash that begins like a path of the checkout must be one.
fn check_paths(tree: &Tree, file: &Path, text: &str, findings: &mut Vec<Finding>) {
    for (number, line) in (1..).zip(text.lines()) {
        // The odd pieces between backticks are the code.
        for word in line.split('`').skip(1).step_by(2).filter(|word| looks_like_a_path(tree, word)) {
            let path = word.split(['*', '{', '<']).next().unwrap_or(word).trim_end_matches('/');
            if !exists(tree, Path::new(path)) {
                findings.push(Finding::new(file, number, format!("`{word}` does not exist")));
            }
        }
    }
}

fn looks_like_a_path(tree: &Tree, word: &str) -> bool {
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-*{}<>,".contains(c));
    let Some((first, _)) = word.split_once('/').filter(|(first, _)| is_plain && !first.is_empty()) else {
        return false;
    };
    let has_extension = ["rs", "json", "md", "toml", "yaml", "txt"].iter().any(|it| word.ends_with(&format!(".{it}")));
    let is_top = tree.files.iter().any(|file| file.starts_with(first));
    (is_top || has_extension) && !GENERATED.contains(&first)
}

fn exists(tree: &Tree, path: &Path) -> bool {
    let is_generated = GENERATED.iter().any(|folder| path.starts_with(folder));
    is_generated || tree.files.iter().any(|file| file.starts_with(path))
}

/// `target` as seen from `folder`, without dots; `None` when it leads above the root.
fn within(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::CurDir => (),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree;
    use super::*;

    fn messages(files: &[(&str, &[u8])]) -> Vec<String> {
        let (_folder, tree) = tree(files);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn commands_that_do_not_exist_are_found_in_shell_blocks_only() {
        let text = b"```sh\ncargo xtask demo --check # works\ncargo xtask dance\n$ cargo xtask demo --what\ncargo xtask --help\n```\ncargo xtask prose\n```json\ncargo xtask other\n```\n";
        let found = messages(&[("README.md", text)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("README.md:3: `cargo xtask dance`"), "{found:?}");
        assert!(found[1].starts_with("README.md:4: `cargo xtask demo --what`"), "{found:?}");
    }

    #[test]
    fn links_must_lead_somewhere_inside() {
        let text = b"[a](../LICENSE) [b](b.md#x) [c](missing.md) [d](https://x.y/z) [e](#here) [f](../../out)\n";
        let found = messages(&[("docs/a.md", text), ("docs/b.md", b""), ("LICENSE", b"")]);
        assert_eq!(
            found,
            ["docs/a.md:1: link missing.md leads nowhere", "docs/a.md:1: link ../../out leads out of the checkout"]
        );
    }

    #[test]
    fn indexes_leave_nothing_out() {
        let found = messages(&[
            ("README.md", b"[a](policies/a.json) [b](examples/b/README.md)\n"),
            ("docs/README.md", b"[c](c.md)\n"),
            ("docs/c.md", b""),
            ("docs/d.md", b""),
            ("docs/pictures/e.png", b""),
            ("examples/b/README.md", b""),
            ("examples/f/main.rs", b""),
            ("policies/a.json", b""),
            ("policies/g.json", b""),
            ("policies/schema.json", b""),
        ]);
        assert_eq!(
            found,
            [
                "README.md: has no link to examples/f/",
                "README.md: has no link to policies/g.json",
                "docs/README.md: has no link to d.md",
            ]
        );
    }

    #[test]
    fn paths_in_the_architecture_page_must_exist() {
        let text =
            b"`plugin/engine` `plugin/gone.rs` `a/b` `plugin/*/x` `dist/x.wasm` `application/json` `and/or.rs`\n";
        let found = messages(&[("ARCHITECTURE.md", text), ("plugin/engine/src/lib.rs", b"//! x")]);
        assert_eq!(
            found,
            ["ARCHITECTURE.md:1: `plugin/gone.rs` does not exist", "ARCHITECTURE.md:1: `and/or.rs` does not exist"]
        );
    }
}
