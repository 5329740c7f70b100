//! The site's log of 2015: 7,000 requests of real clients, in Apache's combined format.
//! Not here: what is done with them. The file lies beside the project, not in it.

use std::time::Duration;

use xtask::{skip, workspace};

/// One logged request.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// The client's address.
    pub(crate) client: String,
    pub(crate) method: String,
    /// The path with its query.
    pub(crate) path: String,
    pub(crate) user_agent: String,
    /// Since the first request; later lines may be a little earlier.
    pub(crate) after_first: Duration,
}

/// The whole log in its order; `None`, said loudly, where it is absent.
pub(crate) fn read(test: &str) -> Option<Vec<Logged>> {
    let file = workspace::root().join("../shared/data/site-2015.log");
    let Ok(content) = std::fs::read_to_string(&file) else {
        skip::tell(&format!("envoy: {test}"), &format!("{} is not there: traffic to run on", file.display()));
        return None;
    };
    let mut requests: Vec<Logged> = content.lines().map(parse).collect();
    let first = requests.iter().map(|request| request.after_first).min()?;
    for request in &mut requests {
        request.after_first -= first;
    }
    Some(requests)
}

/// `1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /path HTTP/1.1" 200 203023 "referer" "agent"`; the time is given as
/// time since the month began, which is all that a log of three days needs.
fn parse(line: &str) -> Logged {
    let quoted: Vec<&str> = line.split('"').collect();
    let (start, request, user_agent) = (quoted[0], quoted[1], quoted[5]);
    let words: Vec<&str> = request.split(' ').collect();
    let (_, time) = start.split_once('[').unwrap();
    let (day, clock) = time.split_once(':').unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    let day = number(day.split('/').next().unwrap());
    let clock: Vec<u64> = clock.split(' ').next().unwrap().split(':').map(number).collect();
    Logged {
        client: start.split(' ').next().unwrap().to_owned(),
        method: words[0].to_owned(),
        path: words[1].to_owned(),
        user_agent: user_agent.to_owned(),
        after_first: Duration::from_secs(((day * 24 + clock[0]) * 60 + clock[1]) * 60 + clock[2]),
    }
}
