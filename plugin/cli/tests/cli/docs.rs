//! Every example of docs/cli.md prints what the page says. `TIDEGATE_BLESS=1` writes the page anew instead.

use crate::fake_proxy::{FakeProxy, TOKEN, talkative};
use crate::run::{DEFAULT, Folder};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
/// The proxy that the page talks to.
const URL: &str = "http://127.0.0.1:10000/.tidegate";

#[test]
fn the_page_shows_what_commands_print() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let folder = Folder::new();
    folder.write("policies/default.json", DEFAULT);
    folder.write("token", TOKEN);
    let proxy = FakeProxy::start(talkative());
    let mut written = String::new();
    let mut lines = page.lines().peekable();
    let mut tried = Vec::new();
    while let Some(line) = lines.next() {
        written.push_str(&format!("{line}\n"));
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let mut block = Vec::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            block.push(line);
        }
        if let Some((_, name)) = kind.split_once(" file=") {
            folder.write(name, &format!("{}\n", block.join("\n")));
        }
        if kind != "console" {
            written.push_str(&format!("{}\n```\n", block.join("\n")));
            continue;
        }
        let mut status = 0;
        for command in block.iter().filter_map(|line| line.strip_prefix("$ ")) {
            written.push_str(&format!("$ {command}\n"));
            if command == "echo $?" {
                written.push_str(&format!("{status}\n"));
                continue;
            }
            tried.push(command.split(' ').nth(1).unwrap_or_default().to_owned());
            let ran = folder.shell(&command.replace(URL, &proxy.url));
            status = ran.status;
            written.push_str(&ran.out);
            written.push_str(&ran.err);
        }
        written.push_str("```\n");
    }
    if std::env::var_os("TIDEGATE_BLESS").is_some() {
        std::fs::write(PAGE, &written).unwrap();
    }
    assert!(written == page, "docs/cli.md is out of date; run this test with TIDEGATE_BLESS=1\n{written}");
    for command in
        "check list add remove explain replay test override revoke metrics reset status audit dashboard completions man"
            .split(' ')
    {
        assert!(tried.iter().any(|it| it == command), "{command} has no example");
    }
}
