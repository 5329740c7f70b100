//! HTTP/2 frames written by hand: requests that are reset at once, and bodies that come a byte at a time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection; what the server sends is read and thrown away.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut drain = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while matches!(drain.read(&mut buffer), Ok(1..)) {}
        });
        let mut connection = Self(stream);
        connection.frame(SETTINGS, 0, 0, &[]);
        // The server's settings are to be acknowledged.
        connection.frame(SETTINGS, 1, 0, &[]);
        connection
    }

    /// Starts a request on the stream; streams of clients have odd numbers, in rising order.
    pub(crate) fn request(&mut self, stream: u32, method: &str, path: &str, user: &str) {
        let mut block = Vec::new();
        for (name, value) in
            [(":method", method), (":scheme", "http"), (":authority", "t"), (":path", path), ("x-user", user)]
        {
            // RFC 7541 section 6.2.2: a literal without indexing, with a new name; neither is Huffman coded.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        let ends = if method == "GET" { END_STREAM } else { 0 };
        self.frame(HEADERS, END_HEADERS | ends, stream, &block);
    }

    /// One piece of a request's body.
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], is_last: bool) {
        self.frame(DATA, if is_last { END_STREAM } else { 0 }, stream, bytes);
    }

    /// Takes a request back: `CANCEL`.
    pub(crate) fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).unwrap();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The reading thread ends with it.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
        std::thread::sleep(Duration::from_millis(1));
    }
}
