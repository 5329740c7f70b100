//! `tidegate dashboard`: starts the status page, says where it is, and serves until interrupted.

use serde_json::json;

use crate::cli::DashboardArgs;
use crate::dashboard;
use crate::failure::{Answer, Failure};
use crate::screen::{Screen, complain, visible};

pub(super) fn run(args: &DashboardArgs, screen: Screen) -> Result<Answer, Failure> {
    let api = args.address.admin_api()?;
    let api = api.ok_or("the page is about a running proxy: name it with --url URL, or TIDEGATE_URL")?;
    let failed = |error: std::io::Error| Failure(format!("cannot serve on {}: {error}", args.listen));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(args.listen)).map_err(failed)?;
    let page = format!("http://{}/", listener.local_addr().map_err(failed)?);
    if screen.is_json {
        Screen::print_json(&json!({"page": page, "proxy": api.base}))?;
    } else {
        screen.print(&format!("status page of {}: {page}\nCtrl-C ends it\n", visible(&api.base)))?;
    }
    if args.open {
        open(&page);
    }
    runtime.block_on(dashboard::serve(listener, api)).map_err(failed)?;
    Ok(Answer::Yes)
}

/// Asks the desktop to show the page; whoever has none has read where it is.
fn open(page: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = std::process::Stdio::null;
    let started = std::process::Command::new(program).arg(page).stdout(quiet()).stderr(quiet()).spawn();
    if let Err(error) = started {
        complain(&format!("tidegate: cannot open a browser: {program}: {error}"));
    }
}
