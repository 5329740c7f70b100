//! `tidegate completions` and `man`: what the shell and the manual know of this command line.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::{Answer, Failure};
use crate::screen::{Screen, visible};

pub(super) fn completions(shell: Shell) -> Result<Answer, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    Screen::print_script(&String::from_utf8_lossy(&script))?;
    Ok(Answer::Yes)
}

pub(super) fn man(folder: &Path, screen: Screen) -> Result<Answer, Failure> {
    let failed = |error: std::io::Error| Failure::file("write to", folder, error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    let pages = std::fs::read_dir(folder).map_err(failed)?.filter_map(Result::ok);
    let pages = pages.filter(|page| page.file_name().to_string_lossy().starts_with("tidegate")).count();
    screen.print(&format!("{pages} pages in {}\n", visible(&folder.display().to_string())))?;
    Ok(Answer::Yes)
}
