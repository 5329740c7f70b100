//! Answers that do not come from the upstream: the plugin's local replies, the host's 413, and the 503 of a dead VM.

use std::rc::Rc;

use super::{Drive, Step};
use crate::headers::Headers;
use crate::message::Message;
use crate::stream::{Direction, End, LocalReply, StreamCell};

impl Drive {
    /// Inside a request callback of the same stream the reply waits until that returns, and the last one wins; anywhere
    /// else it goes out now and the first one wins.
    pub(super) fn reply(&mut self, cell: &Rc<StreamCell>, reply: LocalReply) {
        if cell.ended() {
            return;
        }
        if cell.state.borrow().request.in_callback {
            cell.state.borrow_mut().prepared = Some(reply);
            return;
        }
        self.send_reply(cell, reply);
    }

    pub(super) fn send_reply(&mut self, cell: &Rc<StreamCell>, reply: LocalReply) {
        let step = {
            let mut state = cell.state.borrow_mut();
            let request = &state.request.headers;
            let (headers, body) = reply.as_response(request);
            if state.response.through.is_some() {
                Step::Finish(Rc::clone(cell), End::Reset)
            } else if state.response.headers.is_empty() {
                state.reply = Some(reply);
                state.response.fill(headers, body, None, false);
                Step::Flow(Rc::clone(cell), Direction::Response)
            } else {
                // The plugin replaces a response that it is looking at: its callbacks do not see the new one.
                state.reply = Some(reply);
                state.response.through = Some(Message { headers, body, trailers: None, complete: true });
                Step::Finish(Rc::clone(cell), End::Complete)
            }
        };
        self.follow([step]);
    }

    /// What the host answers when a plugin holds more of a body than the buffer takes.
    pub(super) fn too_large(&mut self, cell: &Rc<StreamCell>, direction: Direction) {
        let (status, body, details) = match direction {
            Direction::Request => (413, "Payload Too Large", "request_payload_too_large"),
            Direction::Response => (500, "Internal Server Error", "response_payload_too_large"),
        };
        let reply =
            LocalReply { status, body: body.as_bytes().to_vec(), details: details.to_owned(), ..LocalReply::default() };
        self.send_reply(cell, reply);
    }

    /// A dead VM that fails closed: 503, or a reset where an answer has already begun.
    pub(super) fn fail_stream(&mut self, cell: &Rc<StreamCell>) {
        let end = {
            let mut state = cell.state.borrow_mut();
            state.vm_failed = true;
            if state.response.through.is_some() {
                End::Reset
            } else {
                let reply = LocalReply { status: 503, ..LocalReply::default() };
                let (headers, body) = reply.as_response(&state.request.headers);
                state.response.through = Some(Message { headers, body, trailers: None, complete: true });
                End::Complete
            }
        };
        self.follow([Step::Finish(Rc::clone(cell), end)]);
    }
}

impl LocalReply {
    /// What Envoy makes of a local reply for this request: trailers-only 200 for gRPC, no body for HEAD, and
    /// `text/plain` where the plugin names no content type.
    fn as_response(&self, request: &Headers) -> (Headers, Vec<u8>) {
        let content_type = request.text("content-type").unwrap_or_default();
        let grpc = content_type.strip_prefix("application/grpc");
        if grpc.is_some_and(|rest| rest.is_empty() || rest.starts_with('+')) {
            return (self.as_grpc(), Vec::new());
        }
        let mut headers = Headers::new().with(":status", self.status.to_string());
        for (name, value) in self.headers.iter() {
            headers.append(name, value);
        }
        if !self.body.is_empty() {
            headers.set("content-length", self.body.len().to_string());
            if headers.get("content-type").is_none() {
                headers.append("content-type", "text/plain");
            }
        }
        let head = request.get(":method") == Some(b"HEAD");
        let body = if head { Vec::new() } else { self.body.clone() };
        (headers, body)
    }

    fn as_grpc(&self) -> Headers {
        let grpc_status = self.grpc_status.unwrap_or(match self.status {
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            _ => 2,
        });
        let mut headers = Headers::new()
            .with(":status", "200")
            .with("content-type", "application/grpc")
            .with("grpc-status", grpc_status.to_string());
        if !self.body.is_empty() {
            headers.append("grpc-message", percent_encoded(&self.body));
        }
        for (name, value) in self.headers.iter() {
            headers.append(name, value);
        }
        headers
    }
}

/// gRPC's encoding of a status message: printable ASCII but `%` stays, all else becomes `%XX`.
fn percent_encoded(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for &byte in bytes {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
