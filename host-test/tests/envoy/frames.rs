//! HTTP/2 frame by frame (RFC 9113, RFC 7541) over one connection: for what a client library would not send.
//! Not here: Huffman codes and the dynamic table; requests are sent as literals, and Envoy is told to keep no table.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

/// A connection. What is sent is kept until [`Frames::flush`].
pub(crate) struct Frames {
    stream: TcpStream,
    unsent: Vec<u8>,
    unread: Vec<u8>,
    next_stream: u32,
}

/// What Envoy says of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The status of the response.
    Status { stream: u32, status: u16 },
    /// The response is whole.
    End { stream: u32 },
    /// Envoy gave the stream up.
    Reset { stream: u32 },
    /// Envoy gave the connection up.
    Closed,
}

impl Frames {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut frames = Self { stream, unsent: Vec::new(), unread: Vec::new(), next_stream: 1 };
        frames.unsent.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // SETTINGS_HEADER_TABLE_SIZE (1) is 0; and a window that no test here fills.
        frames.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        frames.frame(WINDOW_UPDATE, 0, 0, &0x4000_0000_u32.to_be_bytes());
        frames
    }

    /// Begins a request with these header lines, pseudo-headers first; `is_whole` without body. Returns its stream.
    pub(crate) fn request(&mut self, headers: &[(&str, &str)], is_whole: bool) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.headers(stream, headers, is_whole);
        stream
    }

    /// Ends a request with trailers.
    pub(crate) fn trailers(&mut self, stream: u32, headers: &[(&str, &str)]) {
        self.headers(stream, headers, true);
    }

    /// Sends a part of a request's body, not the last.
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8]) {
        self.frame(DATA, 0, stream, bytes);
    }

    /// Gives a request up.
    pub(crate) fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// Sends what is kept. A connection that Envoy has closed swallows it.
    pub(crate) fn flush(&mut self) {
        let _ = self.stream.write_all(&self.unsent);
        self.unsent.clear();
    }

    /// Sends what is kept and waits for the status and the end of one stream; `None` where Envoy gave it up.
    pub(crate) fn status(&mut self, wanted: u32) -> Option<u16> {
        self.flush();
        let mut found = None;
        loop {
            match self.event() {
                Event::Status { stream, status } if stream == wanted => found = Some(status),
                Event::End { stream } if stream == wanted => return found,
                Event::Reset { stream } if stream == wanted => return found,
                Event::Closed => return found,
                _ => (),
            }
        }
    }

    /// Waits for the next thing that Envoy says of a stream, and answers what is not about streams.
    pub(crate) fn event(&mut self) -> Event {
        loop {
            let Some(head) = self.take(9) else { return Event::Closed };
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let Some(payload) = self.take(length) else { return Event::Closed };
            match kind {
                HEADERS => {
                    assert!(flags & END_HEADERS != 0, "Envoy sent more headers than a frame holds");
                    if flags & END_STREAM != 0 {
                        // Told with the next event: the end of a stream is a frame of no bytes.
                        let mut end = vec![0, 0, 0, DATA, END_STREAM];
                        end.extend_from_slice(&stream.to_be_bytes());
                        self.unread.splice(0..0, end);
                    }
                    if let Some(status) = status(&payload) {
                        return Event::Status { stream, status };
                    }
                }
                DATA if flags & END_STREAM != 0 => return Event::End { stream },
                RST_STREAM => return Event::Reset { stream },
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => {
                    self.frame(PING, ACK, 0, &payload);
                    self.flush();
                }
                GOAWAY => return Event::Closed,
                _ => (),
            }
        }
    }

    fn headers(&mut self, stream: u32, headers: &[(&str, &str)], is_last: bool) {
        let mut block = Vec::new();
        for (name, value) in headers {
            // RFC 7541, 6.2.2: literal header field without indexing, new name.
            block.push(0);
            for text in [name, value] {
                push_length(&mut block, text.len());
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.frame(HEADERS, END_HEADERS | if is_last { END_STREAM } else { 0 }, stream, &block);
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        assert!(payload.len() <= 16_384, "a frame of {} bytes", payload.len());
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.unsent.extend_from_slice(&length[1..]);
        self.unsent.extend_from_slice(&[kind, flags]);
        self.unsent.extend_from_slice(&stream.to_be_bytes());
        self.unsent.extend_from_slice(payload);
    }

    /// The next so many bytes; `None` when the connection has ended.
    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut chunk = [0; 16_384];
        while self.unread.len() < count {
            match self.stream.read(&mut chunk) {
                Ok(length @ 1..) => self.unread.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("Envoy was silent for a minute"),
                Ok(_) | Err(_) => return None,
            }
        }
        Some(self.unread.drain(..count).collect())
    }
}

/// RFC 7541, 5.1 with a prefix of 7 bits, which are 0 for Huffman.
fn push_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(u8::try_from(length).unwrap()) };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The status that a header block begins with; `None` for trailers.
fn status(block: &[u8]) -> Option<u16> {
    // RFC 7541, 6.3: table size updates come first.
    let updates = block.iter().take_while(|byte| *byte & 0xe0 == 0x20).count();
    match block.get(updates..)? {
        // Appendix A: the static table's entries 8 to 14.
        [indexed @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
        // A literal whose name is entry 8, with a value of three plain digits.
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().ok(),
        _ => None,
    }
}
