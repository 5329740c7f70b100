//! SDK plugin: marks requests and responses, reads headers as bytes, and dies of a request header read too late.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_http_context(|_, _| Box::new(Marker));
}}

struct Marker;

impl Context for Marker {}

impl HttpContext for Marker {
    fn on_http_request_headers(&mut self, count: usize, _: bool) -> Action {
        let headers = self.get_http_request_headers_bytes();
        self.add_http_request_header("x-counted", &headers.len().to_string());
        self.set_property(vec!["seen"], Some(count.to_string().as_bytes()));
        if let Some(reply) = self.get_http_request_header_bytes("x-reply") {
            let status = String::from_utf8_lossy(&reply).parse().unwrap_or(500);
            self.send_http_response(status, vec![("x-by", "marker")], Some(b"no"));
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.add_http_response_header("x-marked", "yes");
        if self.get_http_response_header("x-look-back").is_some() {
            self.get_http_request_header(":path");
        }
        Action::Continue
    }
}
