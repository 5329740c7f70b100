//! `tidegate ticket`: what became of a queued request. The ticket itself is what lets one look; no token is sent.

use ureq::http::Method;

use super::rows::{lines, print};
use crate::cli::TicketArgs;
use crate::failure::{Answer, Failure};
use crate::remote::{Client, encoded};
use crate::screen::Screen;

pub(super) fn run(args: &TicketArgs, screen: Screen) -> Result<Answer, Failure> {
    let api = args.address.admin_api()?.ok_or("tickets live in a running proxy: name it with --url URL")?;
    let path = format!("/v1/queue/{}", encoded(&args.ticket));
    let client = Client::without_token(api);
    let Some(value) = client.json(&Method::GET, &path, None, &["rule", "status"])? else { return Ok(Answer::No) };
    print(screen, &value, lines)?;
    Ok(Answer::Yes)
}
