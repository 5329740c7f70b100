//! `tidegate dashboard` as a process, and what its server answers to whom: the page's own calls are passed on, all others
//! are not. How the page is used is `page`'s.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::load::{Answer, Client, Request, raw};

use crate::proxy::{Proxy, TOKEN, policy};

/// A running `tidegate dashboard`; it ends when dropped.
pub(crate) struct Dashboard {
    child: Child,
    pub(crate) page: String,
    pub(crate) address: SocketAddr,
}

impl Dashboard {
    pub(crate) fn start(url: &str) -> Self {
        Self::with(&["--url", url])
    }

    fn with(flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["dashboard", "--json"]).args(flags).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        for line in lines {
            said.push_str(&line);
            if line == "}" {
                break;
            }
        }
        let said: Value = serde_json::from_str(&said).unwrap();
        let page = said["page"].as_str().unwrap().to_owned();
        let address = page.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        Self { child, page, address }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rules() -> Value {
    json!([{"name": "few", "scope": "per_user", "rate": 2, "window_seconds": 3600}])
}

/// A call as the page makes it.
fn call(dashboard: &Dashboard, method: &str, path: &str) -> Request {
    let own = dashboard.address.to_string();
    Request::new(method, path)
        .authority(&own)
        .header("origin", format!("http://{own}"))
        .header("sec-fetch-site", "same-origin")
        .header("authorization", format!("Bearer {TOKEN}"))
}

fn assert_safe(answer: &Answer, what: &str) {
    let policy = answer.header("content-security-policy").unwrap_or_default();
    for part in ["default-src 'none'", "script-src 'sha256-", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{what}: {policy}");
    }
    assert!(!policy.contains("unsafe") && policy.contains("connect-src 'self'; "), "{what}: {policy}");
    for (name, value) in
        [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
    {
        assert_eq!(answer.header(name), Some(value), "{what}");
    }
    assert!(answer.headers.get("access-control-allow-origin").is_none(), "{what}");
}

#[test]
fn the_pages_calls_are_passed_on_and_all_others_are_not() {
    let Some(proxy) = Proxy::start("operate: dashboard", &policy(&rules()).to_string()) else { return };
    let dashboard = Dashboard::start(&format!("http://{}", proxy.address));
    let client = Client::http1(dashboard.address, 1).unwrap();
    let status = |request: &Request, what: &str| {
        let answer = client.send(request).unwrap();
        assert_safe(&answer, what);
        answer.status
    };

    let page = client.send(&Request::get("/").authority(&dashboard.address.to_string())).unwrap();
    assert_safe(&page, "the page");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let seen = client.send(&call(&dashboard, "GET", "/v1/rules")).unwrap();
    assert_eq!(seen.json().unwrap()["rules"][0]["name"], "few");
    let grant = json!({"target_user_id": "u", "reason": "testing", "duration_minutes": 5, "unlimited": true});
    let post = call(&dashboard, "POST", "/v1/overrides").header("content-type", "application/json");
    let given = client.send(&post.clone().body(grant.to_string())).unwrap();
    assert_eq!(given.status, 201);
    let id = given.json().unwrap()["override_id"].as_str().unwrap().to_owned();
    assert_eq!(status(&call(&dashboard, "DELETE", &format!("/v1/overrides/{id}")), "revoke"), 204);
    assert_eq!(status(&call(&dashboard, "POST", "/v1/metrics/few/reset"), "reset"), 200);
    assert_eq!(status(&post.clone().body("{}"), "a bad grant"), 422);
    assert_eq!(status(&post.body(vec![b' '; 65_537]), "too much"), 413);

    let own = dashboard.address.to_string();
    let bare = Request::get("/v1/rules").authority(&own);
    assert_eq!(status(&bare, "no token"), 401);
    for host in ["evil.test", &format!("evil.test:{}", dashboard.address.port()), "127.0.0.1"] {
        assert_eq!(status(&call(&dashboard, "GET", "/v1/rules").authority(host), host), 421);
        assert_eq!(status(&Request::get("/").authority(host), host), 421);
    }
    for origin in ["https://evil.test", "null", "http://localhost:1"] {
        let forged = bare.clone().header("origin", origin).header("authorization", format!("Bearer {TOKEN}"));
        assert_eq!(status(&forged, origin), 403);
    }
    assert_eq!(status(&bare.clone().header("sec-fetch-site", "cross-site"), "a link elsewhere"), 403);
    for method in ["OPTIONS", "PATCH", "TRACE"] {
        assert_eq!(status(&call(&dashboard, method, "/v1/rules"), method), 405);
    }
    for path in
        ["/v1/../api", "/v1/%2e%2e/%2e%2e/api", "/v1//x", "/v1/a%2f..%2fb", "/v1", "/v2/status", "/x", "/v1/a;b"]
    {
        assert_eq!(status(&call(&dashboard, "GET", path), path), 404);
    }
    let absolute = format!("GET http://evil.test/v1/rules HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n");
    let answer = raw(dashboard.address, absolute.as_bytes(), Duration::from_secs(5)).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 421"), "{}", String::from_utf8_lossy(&answer));
    // The proxy itself serves no page.
    let direct = Client::http1(proxy.address, 1).unwrap();
    assert_eq!(direct.send(&Request::get("/.tidegate/")).unwrap().status, 401);
    let known = Request::get("/.tidegate/").header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(direct.send(&known).unwrap().status, 404);
    assert_eq!(proxy.arrived(), 0, "the upstream saw none of it");
}

#[test]
fn a_proxy_that_is_none_is_told() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dashboard = Dashboard::start(&format!("http://{nobody}"));
    let client = Client::http1(dashboard.address, 1).unwrap();
    let answer = client.send(&call(&dashboard, "GET", "/v1/status")).unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.json().unwrap()["detail"].as_str().unwrap().starts_with("The proxy cannot be reached: "));

    // Another dashboard's page is no admin API: HTML is not passed on.
    let site = Dashboard::start(&format!("{}x", dashboard.page));
    let client = Client::http1(site.address, 1).unwrap();
    let answer = client.send(&call(&site, "GET", "/v1/status")).unwrap();
    assert_ne!(answer.status, 200);
}

#[test]
fn it_is_served_on_loopback_only() {
    let folder = crate::run::Folder::new();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "nowhere"] {
        let complaint = folder.run(&["dashboard", "--url", "http://127.0.0.1:1", "--listen", listen]).complaint(2);
        assert!(complaint.contains("loopback") || complaint.contains("not an address"), "{complaint}");
    }
    assert!(folder.run(&["dashboard"]).complaint(2).contains("name it with --url URL, or TIDEGATE_URL"));
    assert!(folder.run(&["dashboard", "--url", "ftp://x"]).complaint(2).contains("https:// or http://"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let complaint = folder.run(&["dashboard", "--url", "http://127.0.0.1:1", "--listen", &listen]).complaint(2);
    assert!(complaint.contains(&format!("cannot serve on {listen}")), "{complaint}");
}

#[test]
fn through_a_tunnel_the_proxy_is_asked_for_its_own_host() {
    let mut policy = policy(&rules());
    policy["admin_api"]["hosts"] = json!(["proxy.internal"]);
    let Some(proxy) = Proxy::start("operate: a host of its own", &policy.to_string()) else { return };
    let url = format!("http://{}", proxy.address);
    let complaint = proxy.shell("tidegate status").complaint(2);
    assert!(complaint.contains("There is nothing here. (404): is its path the policy's admin_api.path"), "{complaint}");
    for line in ["tidegate status --host proxy.internal", "TIDEGATE_HOST=proxy.internal tidegate audit verify"] {
        proxy.shell(line).clean(0);
    }
    for (flags, status) in [(&["--url", &url][..], 404), (&["--url", &url, "--host", "proxy.internal"], 200)] {
        let dashboard = Dashboard::with(flags);
        let client = Client::http1(dashboard.address, 1).unwrap();
        assert_eq!(client.send(&call(&dashboard, "GET", "/v1/status")).unwrap().status, status, "{flags:?}");
    }
}
