//! docs/cli.md as a list of commands that are run: what the page shows is compared with what they print, and written anew
//! where `TIDEGATE_BLESS=1` is set.

use crate::run::Folder;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
/// The part that is about a proxy; it reaches to the next heading of its rank.
pub(crate) const PROXYS_PART: &str = "## A running proxy";

/// How the commands of a part are run and what they print is compared.
pub(crate) struct Way<'a> {
    /// Whether the part with this heading is run.
    pub(crate) has: fn(&str) -> bool,
    /// A command of the page as it is run.
    pub(crate) command: &'a mut dyn FnMut(&str) -> String,
    /// What it printed as the page has it.
    pub(crate) printed: &'a mut dyn FnMut(String) -> String,
    /// A text without what differs from run to run.
    pub(crate) lasting: fn(&str) -> String,
}

/// Runs the commands, and gives the names of the subcommands.
pub(crate) fn run(folder: &Folder, way: &mut Way<'_>) -> Vec<String> {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (mut written, mut tried, mut differing) = (String::new(), Vec::new(), Vec::new());
    let mut part = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        written.push_str(&format!("{line}\n"));
        if line.starts_with("## ") {
            part = line;
        }
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some((_, name)) = kind.split_once(" file=") {
            folder.write(name, &format!("{}\n", block.join("\n")));
        }
        let mut text = format!("{}\n", block.join("\n"));
        if kind == "console" && (way.has)(part) {
            let ran = console(folder, &block, way, &mut tried);
            if (way.lasting)(&ran) != (way.lasting)(&text) {
                differing.push(ran.clone());
                text = ran;
            }
        }
        written.push_str(&format!("{text}```\n"));
    }
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(PAGE, &written).unwrap();
    }
    let differing = differing.join("\n");
    assert!(differing.is_empty(), "docs/cli.md is out of date; run this test with TIDEGATE_BLESS=1\n{differing}");
    tried
}

/// A block's commands with what they print.
fn console(folder: &Folder, block: &[&str], way: &mut Way<'_>, tried: &mut Vec<String>) -> String {
    let (mut text, mut status) = (String::new(), 0);
    for command in block.iter().filter_map(|line| line.strip_prefix("$ ")) {
        text.push_str(&format!("$ {command}\n"));
        if command == "echo $?" {
            text.push_str(&format!("{status}\n"));
            continue;
        }
        tried.push(command.split(' ').nth(1).unwrap_or_default().to_owned());
        let ran = folder.shell(&(way.command)(command));
        status = ran.status;
        text.push_str(&(way.printed)(ran.out + &ran.err));
    }
    text
}
