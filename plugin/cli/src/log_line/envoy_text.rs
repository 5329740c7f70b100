//! Envoy's default access log, and Istio's, which has more fields: `[TIME] "METHOD PATH PROTOCOL" STATUS FLAGS ...`.
//! Envoy writes what clients send as it is, quotes too: fields are told apart from the side where no client has a say.

use tidegate_engine::described::Described;
use tidegate_engine::replay::Entry;

use crate::moment;

pub(super) fn parse(line: &[u8]) -> Result<Entry, &'static str> {
    let line = String::from_utf8_lossy(line);
    let (time, rest) = line.strip_prefix('[').and_then(|rest| rest.split_once("] \"")).ok_or("no time and request")?;
    let at = moment::from_rfc3339(time).ok_or("a time that is none")?;
    // Neither a method nor a path holds a space.
    let (method, rest) = rest.split_once(' ').ok_or("no method and path")?;
    let (path, rest) = rest.split_once(' ').ok_or("no method and path")?;
    if matches!(method, "" | "-") || matches!(path, "" | "-") {
        return Err("no method and path");
    }
    let (_protocol, rest) = rest.split_once("\" ").ok_or("no end of the request")?;
    let fields = fields(rest);
    let ip = peer(&fields).or_else(|| last_forwarded(&fields)).ok_or("no client address")?;
    let request = Described { method: method.to_owned(), path: path.to_owned(), ip, user: None, headers: Vec::new() };
    Ok(Entry { at, request, status: fields.first().and_then(|status| status.parse().ok()) })
}

/// The words behind the request; one in quotes keeps them.
fn fields(text: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = if rest.starts_with('"') { rest.find("\" ").map(|quote| quote + 1) } else { rest.find(' ') };
        let (field, after) = rest.split_at(end.unwrap_or(rest.len()));
        fields.push(field);
        rest = after.trim_start();
    }
    fields
}

/// The connection's own address, the third field from the end, where Istio writes it; Envoy's last ones are in quotes.
fn peer(fields: &[&str]) -> Option<String> {
    let [.., field, _server_name, _route] = fields else { return None };
    super::address(field).ok()
}

/// The last address of X-Forwarded-For, which is the one that this Envoy put there if it puts any. The field follows
/// four numbers: bytes received, bytes sent, milliseconds, milliseconds upstream.
fn last_forwarded(fields: &[&str]) -> Option<String> {
    let is_count = |field: &&str| *field == "-" || field.bytes().all(|byte| byte.is_ascii_digit());
    // Status and flags look like numbers, too.
    let forwarded = fields.get(2..)?.windows(5).find_map(|fields| match fields {
        [counts @ .., forwarded] if counts.iter().all(is_count) => forwarded.strip_prefix('"')?.strip_suffix('"'),
        _ => None,
    })?;
    super::address(forwarded.rsplit(',').next()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVOY: &str = r#"[2016-04-15T20:17:00.310Z] "POST /api/v1/x?a="b HTTP/2" 204 - 154 0 226 100 "203.0.113.7, 10.0.35.28" "a "quoted" agent" "cc21d9b0" "locations" "tcp://10.0.2.1:80""#;
    const ISTIO: &str = r#"[2020-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 418 - via_upstream - "-" 0 135 3 1 "198.51.100.9" "curl/7.73.0" "84961386" "httpbin:8000" "10.44.1.27:80" outbound|8000||httpbin.foo.svc.cluster.local 10.44.1.23:37652 10.0.45.184:8000 10.44.1.23:46520 - default"#;

    #[test]
    fn lines_are_read() {
        let entry = parse(ENVOY.as_bytes()).unwrap();
        assert_eq!((entry.at.micros(), entry.status), (1_460_751_420_310_000, Some(204)));
        let request = entry.request;
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api/v1/x?a=\"b"));
        assert_eq!((request.ip.as_str(), request.user), ("10.0.35.28", None));
        let entry = parse(ISTIO.as_bytes()).unwrap();
        assert_eq!((entry.request.ip.as_str(), entry.status), ("10.44.1.23", Some(418)));
        let unknown = ISTIO.replace("10.44.1.23:46520", "-").replace("via_upstream", "-");
        assert_eq!(parse(unknown.as_bytes()).unwrap().request.ip, "198.51.100.9");
        let six = ENVOY.replace("10.0.35.28", "2001:db8::7");
        assert_eq!(parse(six.as_bytes()).unwrap().request.ip, "2001:db8::7");
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, wrong) in [
            (ENVOY.replace("203.0.113.7, 10.0.35.28", "-"), "no client address"),
            (ENVOY.replace("2016-04", "2016-14"), "a time that is none"),
            (ENVOY.replace("POST /api/v1/x?a=\"b", "- -"), "no method and path"),
            ("[2016-04-15T20:17:00.310Z] \"POST /x HTT".to_owned(), "no end of the request"),
            ("[2016-04-15T20:17:00.310Z] \"POST /x HTTP/2\" 200 -".to_owned(), "no client address"),
            ("[warn] something".to_owned(), "no time and request"),
        ] {
            assert_eq!(parse(line.as_bytes()).map(|_| ()), Err(wrong), "{line}");
        }
    }
}
