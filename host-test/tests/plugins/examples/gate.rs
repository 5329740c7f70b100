//! SDK plugin: asks the cluster `judge` about each request, holds it meanwhile, lets it through on 200 and answers 403
//! otherwise.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

proxy_wasm::main! {{
    proxy_wasm::set_http_context(|_, _| Box::new(Gate));
}}

struct Gate;

impl HttpContext for Gate {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let headers = vec![(":method", "GET"), (":path", "/verdict"), (":authority", "judge")];
        match self.dispatch_http_call("judge", headers, None, vec![], Duration::from_millis(50)) {
            Ok(_) => Action::Pause,
            Err(status) => {
                self.send_http_response(500, vec![], Some(format!("{status:?}").as_bytes()));
                Action::Pause
            }
        }
    }
}

impl Context for Gate {
    fn on_http_call_response(&mut self, _: u32, _: usize, size: usize, _: usize) {
        let status = self.get_http_call_response_header(":status");
        let body = self.get_http_call_response_body(0, size).unwrap_or_default();
        if status.as_deref() == Some("200") {
            self.resume_http_request();
        } else {
            let why = format!("{status:?} {}", String::from_utf8_lossy(&body));
            self.send_http_response(403, vec![], Some(why.as_bytes()));
        }
    }
}
