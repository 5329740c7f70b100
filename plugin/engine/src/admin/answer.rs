//! How the admin API's answers look: JSON that nobody stores and no browser takes for a page, errors as RFC 9457
//! problem details.

use super::{number, object, text};
use crate::policy::{Mistakes, Node};
use crate::response::Response;

/// A JSON answer.
pub fn json(status: u16, body: &Node) -> Response {
    of_type("application/json", status, body.to_json())
}

/// Success with nothing to tell.
pub fn nothing() -> Response {
    Response {
        status: 204,
        headers: vec![("cache-control".into(), "no-store".to_owned())],
        body: String::new(),
        grpc_status: None,
    }
}

/// What went wrong, in one sentence.
pub fn problem(status: u16, detail: &str) -> Response {
    of_type("application/problem+json", status, details(status, detail).to_json())
}

/// 422, or another status, with everything that is wrong with what was sent.
pub fn mistakes(status: u16, detail: &str, mistakes: &Mistakes) -> Response {
    let list = mistakes.iter().map(|mistake| {
        let mut members = vec![
            ("pointer".to_owned(), text(&mistake.pointer)),
            ("found".to_owned(), text(&mistake.found)),
            ("allowed".to_owned(), text(&mistake.allowed)),
        ];
        members.extend(mistake.suggestion.iter().map(|name| ("suggestion".to_owned(), text(name))));
        Node::Object(members)
    });
    let mut body = details(status, detail);
    if let Node::Object(members) = &mut body {
        members.push(("mistakes".to_owned(), Node::List(list.collect())));
        members.push(("left_off".to_owned(), number(mistakes.left_off().try_into().unwrap_or(u64::MAX))));
    }
    of_type("application/problem+json", status, body.to_json())
}

/// The one answer to whoever has no right token, whatever was asked for.
pub fn unauthorized() -> Response {
    let mut response = problem(401, "A bearer token of this proxy's admin API is needed.");
    response.headers.push(("www-authenticate".into(), "Bearer".to_owned()));
    response
}

fn details(status: u16, detail: &str) -> Node {
    object(&mut [("type", text("about:blank")), ("status", number(status.into())), ("detail", text(detail))])
}

fn of_type(content_type: &str, status: u16, body: String) -> Response {
    Response {
        status,
        headers: vec![
            ("content-type".into(), content_type.to_owned()),
            ("cache-control".into(), "no-store".to_owned()),
            ("x-content-type-options".into(), "nosniff".to_owned()),
        ],
        body,
        grpc_status: None,
    }
}
