//! `waiting_page`: answers people with a page that loads itself again as soon as they may come back. A Tidegate plugin
//! with a strategy of its own, from whose parts you can make yours: `docs/write-your-own.md` goes through it.
//!
//! In a policy: `"strategy": {"type": "waiting_page", "title": "Tickets open soon", "max_reload_seconds": 60}`. Programs
//! get the same status and `Retry-After` as from `retry_after`; for an API use that one, whose body is JSON.

use tidegate_engine::Micros;
use tidegate_engine::catalogue::{Catalogue, StrategyKind};
use tidegate_engine::policy::{Member, Mistake, Node, Shape, TextKind};
use tidegate_engine::strategy::{Action, Body, Denial, Refusal, Strategy};

tidegate_filter::plugin!(Catalogue::builtin().with_strategy(&WAITING_PAGE));

/// The kind of strategy, as the catalogue takes it: its name, its options, and how one is made from them.
static WAITING_PAGE: StrategyKind = StrategyKind {
    name: "waiting_page",
    doc: "Answers with a page that loads itself again when the client may come back.",
    options: &[
        Member::or("status", Shape::Integer { min: 400, max: 599 }, "429", "The HTTP status."),
        Member::or("title", Shape::Text(LINE), "\"Please wait\"", "The page's title and headline."),
        Member::or("message", Shape::Text(LINE), "\"Many people are here.\"", "What the page says below it."),
        Member::or("min_reload_seconds", RELOAD, "5", "The page waits at least this long before it loads again."),
        Member::or("max_reload_seconds", RELOAD, "300", "And at most this long."),
    ],
    build,
};

const RELOAD: Shape = Shape::Integer { min: 1, max: 86_400 };

/// A line of text for people. What HTML gives a meaning is escaped when the page is made.
const LINE: &TextKind = &TextKind {
    allowed: "up to 200 characters without control characters",
    pattern: "^[^\\u0000-\\u001f\\u007f]*$",
    min: 0,
    max: 200,
    check: |text| if text.contains(char::is_control) { Err(String::new()) } else { Ok(()) },
};

/// Makes a strategy from options that fit their shapes and have their defaults filled in. What no shape can say, here
/// that one number must not exceed another, is checked here and told with the place in the policy.
fn build(options: &Node, pointer: &str) -> Result<Box<dyn Strategy>, Mistake> {
    let number = |name| options.get(name).and_then(Node::whole).unwrap_or_default();
    let text = |name| escaped(options.word(name).unwrap_or_default());
    let (least, most) = (number("min_reload_seconds"), number("max_reload_seconds"));
    if least > most {
        let place = format!("{pointer}/min_reload_seconds");
        return Err(Mistake::new(&place, least.to_string(), format!("at most {most}, the max_reload_seconds")));
    }
    let status = u16::try_from(number("status")).unwrap_or(429);
    Ok(Box::new(WaitingPage { status, title: text("title"), message: text("message"), least, most }))
}

#[derive(Debug)]
struct WaitingPage {
    status: u16,
    /// As HTML.
    title: String,
    /// As HTML.
    message: String,
    least: u64,
    most: u64,
}

impl Strategy for WaitingPage {
    fn name(&self) -> &'static str {
        WAITING_PAGE.name
    }

    fn apply(&self, denial: &Denial) -> Action {
        let body = Body::Own { content_type: "text/html; charset=utf-8", content: self.page(denial.retry_after) };
        Action::Respond(Refusal { status: self.status, body, retry_after: Some(denial.retry_after) })
    }
}

impl WaitingPage {
    fn page(&self, wait: Micros) -> String {
        let Self { title, message, least, most, .. } = self;
        // `build` has seen to it that the least is not above the most; `clamp` would panic.
        let seconds = wait.secs_ceil().max(*least).min(*most);
        format!(
            "<!DOCTYPE html>\n<meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"{seconds}\">\n\
             <title>{title}</title>\n<h1>{title}</h1>\n<p>{message}</p>\n\
             <p>This page loads again by itself in {seconds} seconds.</p>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use tidegate_engine::conformance::check_strategy;
    use tidegate_engine::policy::Policy;
    use tidegate_engine::strategy::{Reason, Relief};

    use super::*;

    fn strategy(options: &str) -> Result<Box<dyn Strategy>, String> {
        let text = format!(
            r#"{{"version": 1, "rules": [{{"name": "sale", "scope": "per_ip", "rate": 1, "window_seconds": 60,
                "strategy": {{"type": "waiting_page" {options}}}}}]}}"#
        );
        let catalogue = Catalogue::builtin().with_strategy(&WAITING_PAGE);
        let policy = Policy::parse(text.as_bytes(), &catalogue).map_err(|mistakes| mistakes.to_string())?;
        Ok(policy.rules.into_iter().next().unwrap().strategy)
    }

    fn answer(options: &str, wait: Micros) -> (u16, String) {
        let denial = Denial {
            rule: "sale".to_owned(),
            reason: Reason::OverQuota,
            relief: Relief::None,
            retry_after: wait,
            violated: vec!["sale".to_owned()],
        };
        match strategy(options).unwrap().apply(&denial) {
            Action::Respond(Refusal { status, body: Body::Own { content, .. }, .. }) => (status, content),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_keeps_the_contract() {
        check_strategy(&*strategy("").unwrap()).unwrap();
    }

    #[test]
    fn the_page_loads_again_when_the_client_may_come_back() {
        for (options, wait, seconds) in [
            ("", 41_000_001, 42),
            ("", 1, 5),
            ("", u64::MAX, 300),
            (r#", "min_reload_seconds": 1, "max_reload_seconds": 1"#, 10_000_000, 1),
        ] {
            let (status, page) = answer(options, Micros(wait));
            assert_eq!(status, 429);
            assert!(page.contains(&format!(r#"http-equiv="refresh" content="{seconds}""#)), "{page}");
        }
    }

    #[test]
    fn what_the_policy_says_is_text() {
        let (status, page) = answer(r#", "status": 503, "title": "<script>\"&", "message": "Soon.""#, Micros(1));
        assert_eq!(status, 503);
        assert!(page.contains("<h1>&lt;script&gt;&quot;&amp;</h1>\n<p>Soon.</p>"), "{page}");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let told = |options| strategy(options).unwrap_err();
        assert_eq!(
            told(r#", "min_reload_seconds": 60, "max_reload_seconds": 10"#),
            "/rules/0/strategy/min_reload_seconds: found 60, allowed: at most 10, the max_reload_seconds"
        );
        let line = told(r#", "titel": "x", "message": "a\nb", "status": 200"#);
        assert!(line.contains("did you mean \"title\"?"), "{line}");
        assert!(line.contains("/rules/0/strategy/message: found "), "{line}");
        assert!(line.contains("/rules/0/strategy/status: found 200"), "{line}");
    }
}
