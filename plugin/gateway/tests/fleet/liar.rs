//! A small HTTP server between proxies and gateway: hands calls on, or answers them itself with what no store says.
//! Not here: what must come of that (`lies`).

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// What the gateway says.
    Truth,
    /// This body, with status 200.
    Body(&'static str),
    /// Another status, with this body.
    Status(u16, &'static str),
    /// A list of numbers, so many bytes long.
    Long(usize),
    /// Half of the body that it announces, then it closes.
    Half,
    /// Nothing, ever.
    Silence,
}

/// The body of `Says::Long`; a test's process has one length of it.
static LONG: OnceLock<String> = OnceLock::new();

/// It runs until the test's process ends; its threads hold nothing else.
pub(crate) struct Liar {
    pub(crate) address: String,
    says: Arc<Mutex<Says>>,
}

impl Liar {
    /// One in front of the gateway at this address, truthful at first.
    pub(crate) fn start(gateway: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let liar =
            Self { address: listener.local_addr().unwrap().to_string(), says: Arc::new(Mutex::new(Says::Truth)) };
        let (says, gateway) = (Arc::clone(&liar.says), gateway.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (says, gateway) = (Arc::clone(&says), gateway.clone());
                // A connection that breaks is what some of the lies are.
                std::thread::spawn(move || serve(stream, &gateway, &says));
            }
        });
        liar
    }

    pub(crate) fn says(&self, what: Says) {
        *self.says.lock().unwrap() = what;
    }
}

fn serve(mut caller: TcpStream, gateway: &str, says: &Mutex<Says>) -> Option<()> {
    let mut behind = TcpStream::connect(gateway).ok()?;
    for stream in [&caller, &behind] {
        stream.set_nodelay(true).ok()?;
    }
    loop {
        let request = message(&mut caller)?;
        let what = *says.lock().unwrap();
        let (head, body): (String, Cow<'_, str>) = match what {
            Says::Truth => {
                behind.write_all(&request).ok()?;
                let answer = message(&mut behind)?;
                caller.write_all(&answer).ok()?;
                continue;
            }
            Says::Silence => {
                while *says.lock().unwrap() == what {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return None;
            }
            Says::Body(body) => (head(200, body.len()), body.into()),
            Says::Status(status, body) => (head(status, body.len()), body.into()),
            Says::Long(size) => {
                // Made once: what making it costs is not what is looked at.
                let body = LONG.get_or_init(|| ["{\"result\":[", &"1,".repeat(size / 2), "1]}"].concat());
                (head(200, body.len()), body.into())
            }
            Says::Half => (head(200, 40), "{\"result\":[1,1795000".into()),
        };
        caller.write_all(head.as_bytes()).ok()?;
        caller.write_all(body.as_bytes()).ok()?;
        if what == Says::Half {
            return None;
        }
    }
}

fn head(status: u16, length: usize) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
}

/// A whole message with a `content-length`.
fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 65_536]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return Some(bytes);
            }
        }
        let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
    }
}
