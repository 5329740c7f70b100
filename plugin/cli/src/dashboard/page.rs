//! The page's document, put together once, and the Content-Security-Policy that lets its own scripts and style in and
//! nothing else: no other script, no inline handler, no request to another host.
//! Not here: what the page does (`draw.js`, `board.js`, `page.js`).

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

const DOCUMENT: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In the order in which they need each other, each with its place in the document.
const SCRIPTS: [(&str, &str); 3] = [
    ("{{draw}}", include_str!("draw.js")),
    ("{{board}}", include_str!("board.js")),
    ("{{page}}", include_str!("page.js")),
];

/// What is served.
pub(super) struct Page {
    document: String,
    policy: HeaderValue,
}

impl Page {
    /// The page of the proxy at this address.
    pub(super) fn new(proxy: &str) -> Self {
        let document = DOCUMENT.replace("{{style}}", STYLE);
        let document = SCRIPTS.iter().fold(document, |document, (place, script)| document.replace(place, script));
        let scripts: Vec<String> = SCRIPTS.iter().map(|(_, script)| format!("'{}'", hash(script))).collect();
        let policy = format!(
            "default-src 'none'; script-src {}; style-src '{}'; img-src data:; connect-src 'self'; frame-ancestors \
             'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            scripts.join(" "),
            hash(STYLE),
        );
        // Hashes and fixed words are visible ASCII; were they not, nothing at all would be let in.
        let policy = HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Self { document: document.replace("{{proxy}}", &escaped(proxy)), policy }
    }

    pub(super) fn response(&self) -> Response {
        let mut response = Response::new(Body::from(self.document.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response
    }

    pub(super) fn content_security_policy(&self) -> &HeaderValue {
        &self.policy
    }
}

/// What a Content-Security-Policy calls an inline script or style by: it covers all between the tags.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// Text made fit for an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_whole_and_asks_nobody_else() {
        let page = Page::new("http://x/\"><script>");
        assert!(!page.document.contains("{{") && page.document.contains("http://x/&quot;&gt;&lt;script&gt;"));
        assert_eq!(page.document.matches("<script>").count(), 3);
        assert_eq!(page.document.matches("<style>").count(), 1);
        // The SVG namespace is a name, not an address that is asked.
        let names = page.document.replace("http://www.w3.org/2000/svg", "").replace("http://x/", "");
        assert!(!names.contains("http://") && !names.contains("https://"));
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage", "cookie"]
        {
            assert!(SCRIPTS.iter().all(|(_, script)| !script.contains(sink)), "{sink}");
        }
        // The parser would end the script, or the style, there, and the hash would be of something else.
        assert!(SCRIPTS.iter().all(|(_, script)| !script.contains("</script")) && !STYLE.contains("</style"));
        let policy = page.policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"));
        // What stands between the tags is what was hashed.
        for script in page.document.split("<script>").skip(1) {
            let (script, _) = script.split_once("</script>").unwrap();
            assert!(policy.contains(&format!("'{}'", hash(script))));
        }
    }
}
