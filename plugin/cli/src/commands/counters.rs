//! `tidegate counters`: what a running proxy has counted for one client, without charging it.

use ureq::http::Method;

use super::explain::looked_at;
use super::rows::print;
use crate::cli::CountersArgs;
use crate::failure::{Answer, Failure};
use crate::remote::counter;
use crate::screen::Screen;

pub(super) fn run(args: &CountersArgs, screen: Screen) -> Result<Answer, Failure> {
    let client = args.target.proxy_only("counters")?;
    let path = counter(&args.rule, &args.key, args.kind.as_deref());
    let Some(value) = client.json(&Method::GET, &path, None, &["rules"])? else { return Ok(Answer::No) };
    print(screen, &value, |value| looked_at(value, screen))?;
    Ok(Answer::Yes)
}
