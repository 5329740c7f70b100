//! The gateway as a child process, and an HTTP/1.1 client plain enough to send what no library would.
//! Not here: assertions about what is answered.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tidegate_engine::policy::{Node, Protocol};
use tidegate_engine::redis::{Call, Failure, Form};

use crate::process::{Process, wait_for};

/// The token of every gateway that has one.
pub(crate) const TOKEN: &str = "tests-only-token-4711";

/// A running gateway and all that it logged.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
    token: Option<&'static str>,
}

impl Gateway {
    /// A gateway with `TOKEN` in front of `redis`.
    pub(crate) fn start(redis: &str, flags: &[&str]) -> Self {
        let mut all = vec!["--token", TOKEN];
        all.extend(flags);
        Self { token: Some(TOKEN), ..Self::start_open(redis, &all) }
    }

    /// A gateway with exactly these flags.
    pub(crate) fn start_open(redis: &str, flags: &[&str]) -> Self {
        let (process, log) = spawn(redis, flags);
        let mut gateway = Self { process, address: String::new(), log, token: None };
        gateway.address = wait_for("the gateway's first line", Duration::from_secs(20), || {
            let log = gateway.log();
            let line = log.lines().find(|line| line.contains("\"listening\""))?;
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["address"].as_str()?.to_owned())
        });
        gateway
    }

    /// The exit status and all output of a gateway that is expected to stop by itself.
    pub(crate) fn run(redis: &str, flags: &[&str]) -> (Option<i32>, String) {
        let (mut process, log) = spawn(redis, flags);
        let status = wait_for("the gateway's end", Duration::from_secs(20), || process.0.try_wait().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        let log = log.lock().unwrap().clone();
        (status.code(), log)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A client with a connection of its own and, where the gateway has one, the token.
    pub(crate) fn client(&self) -> Client {
        Client { address: self.address.clone(), token: self.token, stream: None }
    }

    /// One command on a connection of its own: its status and its answer.
    pub(crate) fn call(&self, command: &Value) -> (u16, Value) {
        self.client().call(command)
    }
}

fn spawn(redis: &str, flags: &[&str]) -> (Process, Arc<Mutex<String>>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-gateway"));
    command.env_clear().env("TIDEGATE_REDIS", redis).args(["--log-format", "json", "--log-level", "debug"]);
    if !flags.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    let mut process = Process::start(command.args(flags).stderr(Stdio::piped()));
    let lines = BufReader::new(process.0.stderr.take().unwrap()).lines();
    let log = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            kept.lock().unwrap().push_str(&(line + "\n"));
        }
    });
    (process, log)
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A client that keeps its connection.
pub(crate) struct Client {
    address: String,
    token: Option<&'static str>,
    stream: Option<TcpStream>,
}

impl Client {
    /// A client of any server, without token.
    pub(crate) fn to(address: String) -> Self {
        Self { address, token: None, stream: None }
    }

    /// `POST /` with one command.
    pub(crate) fn call(&mut self, command: &Value) -> (u16, Value) {
        let response = self.post("/", command);
        (response.status, response.json())
    }

    /// A script's call as a filter makes it: by its hash, and by its text where that is not known.
    pub(crate) fn script(&mut self, protocol: Protocol, call: &Call) -> Result<Vec<Node>, Failure> {
        let mut answer = |form| {
            let response = self.send("POST", "/", &[], call.body(protocol, form).as_bytes()).unwrap();
            tidegate_engine::redis::read(u32::from(response.status), &response.body)
        };
        match answer(Form::Hash) {
            Err(Failure::NoScript) => answer(Form::Text),
            other => other,
        }
    }

    /// `POST` of JSON.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Response {
        self.send("POST", path, &[], body.to_string().as_bytes()).unwrap()
    }

    /// Any request: Host, JSON content type and token are set unless `lines` name them.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        lines: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let request = self.request(method, path, lines, body);
        self.write(&request)?;
        let answer = read(self.stream.as_mut().unwrap());
        if answer.is_err() || answer.as_ref().is_ok_and(|answer| answer.header("connection") == Some("close")) {
            self.stream = None;
        }
        answer
    }

    /// `POST /` with one command by a caller that leaves after `patience`; nothing where it left.
    pub(crate) fn hurried(&mut self, command: &Value, patience: Duration) -> Option<(u16, Value)> {
        let request = self.request("POST", "/", &[], command.to_string().as_bytes());
        let answer = self.write(&request).and_then(|()| {
            self.stream.as_ref().unwrap().set_read_timeout(Some(patience))?;
            self.read()
        });
        if answer.is_err() {
            self.stream = None;
        }
        answer.ok().map(|answer| (answer.status, answer.json()))
    }

    /// Sends a request and goes away without reading the answer.
    pub(crate) fn abandon(&mut self, command: &Value) -> std::io::Result<()> {
        let request = self.request("POST", "/", &[], command.to_string().as_bytes());
        self.write(&request)?;
        self.stream = None;
        Ok(())
    }

    /// Bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            self.stream = Some(stream);
        }
        self.stream.as_mut().unwrap().write_all(bytes)
    }

    /// The next answer.
    pub(crate) fn read(&mut self) -> std::io::Result<Response> {
        read(self.stream.as_mut().unwrap())
    }

    /// Reads until `count` answers have come, and says how many were 200.
    pub(crate) fn drain(&mut self, count: usize) -> usize {
        let stream = self.stream.as_mut().unwrap();
        let (mut seen, mut chunk) = (Vec::new(), vec![0; 65_536]);
        let times = |seen: &[u8], what: &[u8]| seen.windows(what.len()).filter(|window| *window == what).count();
        while times(&seen, b"}") < count {
            match stream.read(&mut chunk) {
                Ok(read) if read > 0 => seen.extend_from_slice(&chunk[..read]),
                _ => break,
            }
        }
        times(&seen, b"HTTP/1.1 200 OK")
    }

    fn request(&self, method: &str, path: &str, lines: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let token = self.token.map(|token| format!("Bearer {token}"));
        let defaults = [
            ("Host", Some("localhost")),
            ("Content-Type", Some("application/json")),
            ("Authorization", token.as_deref()),
        ];
        for (name, value) in defaults {
            if let Some(value) = value.filter(|_| !lines.iter().any(|line| line.0.eq_ignore_ascii_case(name))) {
                write!(head, "{name}: {value}\r\n").unwrap();
            }
        }
        for (name, value) in lines {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
        [head.as_bytes(), body].concat()
    }
}

fn read(stream: &mut TcpStream) -> std::io::Result<Response> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 65_536];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut response = Response { status: head[9..12].parse().unwrap(), head, body: bytes[end + 4..].to_vec() };
            let length: usize = response.header("content-length").map_or(0, |length| length.parse().unwrap());
            while response.body.len() < length {
                let count = stream.read(&mut chunk)?;
                if count == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                response.body.extend_from_slice(&chunk[..count]);
            }
            return Ok(response);
        }
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
}
