//! Every example of docs/cli.md that needs no proxy prints what the page says; the others are `tests/operate`'s.

use crate::cli_page::{PROXYS_PART, Way, run};
use crate::run::{DEFAULT, Folder};

#[test]
fn the_page_shows_what_commands_print() {
    let folder = Folder::new();
    folder.write("policies/default.json", DEFAULT);
    let mut way = Way {
        has: |part| part != PROXYS_PART,
        command: &mut str::to_owned,
        printed: &mut |text| text,
        lasting: str::to_owned,
    };
    let tried = run(&folder, &mut way);
    for command in "check list add remove explain replay test completions man".split(' ') {
        assert!(tried.iter().any(|it| it == command), "{command} has no example");
    }
}
