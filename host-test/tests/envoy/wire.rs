//! HTTP/1.1 byte by byte over one connection: for requests that a client library would not send, and for exact order.
//! Not here: many requests at once (`xtask::load`).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use xtask::load::Answer;

/// How long an answer may take; a proxy that hangs fails the test.
const PATIENCE: Duration = Duration::from_mins(1);

/// A connection that is used for one request after another.
pub(crate) struct Wire {
    stream: TcpStream,
    /// What was read and belongs to no reply yet.
    buffer: Vec<u8>,
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case, in the order received.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are and reads one response.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Reply> {
        self.write(request)?;
        self.reply(request.starts_with(b"HEAD "))
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("writing")
    }

    /// Reads one response; that to a HEAD has no body.
    pub(crate) fn reply(&mut self, is_to_head: bool) -> Result<Reply> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.read()?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.with_context(|| format!("the status in {head:?}"))?;
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let mut reply = Reply { status, headers: lines.filter_map(header).collect(), body: Vec::new() };
        if !is_to_head && !matches!(status, 101 | 204 | 304) {
            reply.body = self.body(&reply)?;
        }
        Ok(reply)
    }

    /// Reads so many bytes that follow.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.read()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn body(&mut self, reply: &Reply) -> Result<Vec<u8>> {
        if let Some(length) = reply.header("content-length") {
            return self.bytes(length.parse().context("the content length")?);
        }
        if reply.header("transfer-encoding") != Some("chunked") {
            return Ok(Vec::new());
        }
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break end;
                }
                self.read()?;
            };
            let size = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let size = usize::from_str_radix(&size, 16).with_context(|| format!("the chunk size {size:?}"))?;
            self.buffer.drain(..end + 2);
            body.extend(self.bytes(size)?);
            self.bytes(2)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn read(&mut self) -> Result<()> {
        let mut chunk = [0; 16_384];
        let length = self.stream.read(&mut chunk).context("reading an answer")?;
        if length == 0 {
            bail!("the connection was closed after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.extend_from_slice(&chunk[..length]);
        Ok(())
    }
}

impl Reply {
    /// A header's only value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} comes twice in {self:?}");
        Some(value)
    }

    /// What `RateLimit` says is left, by rule, in its order; empty without the header.
    pub(crate) fn left(&self) -> Vec<(&str, u64)> {
        fn item(item: &str) -> Option<(&str, u64)> {
            let (name, parameters) = item.strip_prefix('"')?.split_once('"')?;
            let left = parameters.split(';').find_map(|parameter| parameter.strip_prefix("r="))?;
            Some((name, left.parse().ok()?))
        }
        self.header("ratelimit").unwrap_or_default().split(", ").filter_map(item).collect()
    }

    /// The same, and the status, in a line such as `200 global=9 user=4`.
    pub(crate) fn status_and_left(&self) -> String {
        let left = self.left().into_iter().map(|(rule, left)| format!(" {rule}={left}"));
        format!("{}{}", self.status, left.collect::<String>())
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = answer.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
        Self { status: answer.status, headers, body: answer.body.to_vec() }
    }
}

/// A request without body.
pub(crate) fn request(method: &str, path: &str, authority: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n");
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
