//! `examples/fastapi`: a real application behind a real Envoy with the filter. The user is whom `jwt_authn`
//! verified: ten searches pass, the eleventh is 429 with Retry-After.

// Clippy takes only functions marked #[test] for tests, not what they call.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use xtask::envoy::{Envoy, fetch};
use xtask::load::{Client, Request};
use xtask::tools::{self, IfMissing};
use xtask::{skip, workspace};

/// The packages that the example names, installed once for each version of that file.
fn packages(example: &Path) -> PathBuf {
    tools::ensure_packages(&[tools::PYTHON_PIP], IfMissing::Install).unwrap();
    let folder = workspace::tools_dir().join("fastapi");
    let (wanted, installed) = (example.join("requirements.txt"), folder.join("requirements.txt"));
    let wanted_text = fs::read(&wanted).unwrap();
    if fs::read(&installed).is_ok_and(|text| text == wanted_text) {
        return folder;
    }
    let _ = fs::remove_dir_all(&folder);
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]);
    pip.args(["--root-user-action=ignore", "--target"]).arg(&folder).arg("-r").arg(&wanted);
    workspace::run(&mut pip).unwrap();
    // Last, once everything is there.
    fs::write(installed, wanted_text).unwrap();
    folder
}

/// The application, until it is dropped.
struct Uvicorn {
    process: Child,
    port: u16,
}

impl Uvicorn {
    fn start(example: &Path) -> Self {
        let packages = packages(example);
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let mut command = Command::new("python3");
        command.args(["-m", "uvicorn", "app:app", "--log-level", "warning", "--port", &port.to_string()]);
        command.current_dir(example).env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
        let process = command.stdin(Stdio::null()).spawn().unwrap();
        let uvicorn = Self { process, port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_mins(1), "the application does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        uvicorn
    }
}

impl Drop for Uvicorn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The example's configuration with free ports and this application, in a folder laid out like the checkout.
fn with_free_ports(folder: &Path, example: &Path, wasm: &Path, port: u16) -> PathBuf {
    let text = fs::read_to_string(example.join("envoy.yaml")).unwrap();
    let application = format!("port_value: {port}");
    let ports = [
        ("port_value: 9901", "port_value: 0"),
        ("port_value: 10000", "port_value: 0"),
        ("port_value: 8080", application.as_str()),
    ];
    let text = ports.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "the example should have {from}");
        text.replace(from, to)
    });
    fs::create_dir_all(folder.join("dist")).unwrap();
    fs::copy(wasm, folder.join("dist/tidegate.wasm")).unwrap();
    let bootstrap = folder.join("envoy.yaml");
    fs::write(&bootstrap, text).unwrap();
    bootstrap
}

#[test]
fn ten_searches_of_a_verified_user_pass_and_the_eleventh_is_told_when_to_come_back() {
    let wasm = workspace::wasm_file();
    if !wasm.is_file() {
        return skip::tell("xtask: examples/fastapi", "dist/tidegate.wasm is not built; run `cargo xtask build`");
    }
    let example = workspace::root().join("examples/fastapi");
    let uvicorn = Uvicorn::start(&example);
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = with_free_ports(folder.path(), &example, &wasm, uvicorn.port);
    let envoy = Envoy::start_file(&fetch::binary(IfMissing::Install).unwrap(), &bootstrap, folder.path()).unwrap();
    let address = format!("127.0.0.1:{}", envoy.address("main").unwrap().port()).parse().unwrap();
    let client = Client::http1(address, 1).unwrap();
    let token = fs::read_to_string(workspace::root().join("examples/envoy/alice.jwt")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let search = || client.send(&Request::get("/api/search?q=tide").header("authorization", &bearer)).unwrap();

    // Nobody is alice without her token, whatever they write.
    let forged = Request::get("/api/search").header("x-jwt-payload", "eyJzdWIiOiJhbGljZSJ9");
    assert_eq!(client.send(&forged).unwrap().status, 401);
    assert_eq!(client.send(&Request::get("/items/word")).unwrap().status, 422, "the application's own answer");

    let first = search();
    assert_eq!(first.status, 200);
    let body: serde_json::Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!((body["user"].as_str(), body["query"].as_str()), (Some("alice"), Some("tide")));
    let statuses: Vec<u16> = (0..9).map(|_| search().status).collect();
    assert_eq!(statuses, vec![200; 9]);
    let eleventh = search();
    assert_eq!(eleventh.status, 429);
    let seconds: u64 = eleventh.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&seconds), "{seconds}");
}
