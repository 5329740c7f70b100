//! Apache's common and combined formats, nginx's too: `IP ident user [time] "METHOD PATH PROTOCOL" status bytes ...`, and
//! Apache's `vhost_combined`, which has the virtual host before that.

use tidegate_engine::described::Described;
use tidegate_engine::replay::Entry;

use crate::moment;

pub(super) fn parse(line: &[u8]) -> Result<Entry, &'static str> {
    let line = String::from_utf8_lossy(line);
    let (first, rest) = line.split_once(' ').ok_or("no client address")?;
    // An identity is never an address: where one follows the first word, that was the virtual host.
    let (ip, rest) = match rest.split_once(' ').map(|(second, rest)| (super::address(second), rest)) {
        Some((Ok(ip), rest)) => (ip, rest),
        _ => (super::address(first)?, rest),
    };
    // A user's name may hold spaces, even brackets: the time is the last thing in brackets before the request.
    let (before, rest) = rest.split_once("] \"").ok_or("no time and request")?;
    let (names, time) = before.rsplit_once('[').ok_or("no time")?;
    let at = moment::from_common_log(time).ok_or("a time that is none")?;
    let (_, user) = names.trim_end().split_once(' ').unwrap_or(("", ""));
    let (request, rest) = quoted(rest).ok_or("no end of the request")?;
    let mut words = request.split(' ').filter(|word| !word.is_empty());
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err("no method and path") };
    if !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err("no method and path");
    }
    let user = (!matches!(user, "" | "-" | "\"\"")).then(|| unescaped(user));
    Ok(Entry {
        at,
        request: Described { method: method.to_owned(), path: origin_form(path), ip, user, headers: Vec::new() },
        status: rest.split_whitespace().next().and_then(|status| status.parse().ok()),
    })
}

/// The text up to the closing quote, escapes resolved, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut is_escaped = false;
    for (index, c) in text.char_indices() {
        match c {
            '"' if !is_escaped => return Some((unescaped(text.get(..index)?), text.get(index + 1..)?)),
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    None
}

/// Both servers write `\xhh`, Apache also `\"`, `\\`, `\n` and `\t`.
fn unescaped(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, tail) = match (first, after) {
            (b'\\', [b'x', high, low, tail @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                (hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0), tail)
            }
            (b'\\', [b'n', tail @ ..]) => (b'\n', tail),
            (b'\\', [b't', tail @ ..]) => (b'\t', tail),
            (b'\\', [b'r', tail @ ..]) => (b'\r', tail),
            (b'\\', [c @ (b'"' | b'\\'), tail @ ..]) => (*c, tail),
            _ => (*first, after),
        };
        out.push(byte);
        rest = tail;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A request to a proxy names the whole URL (RFC 9112, absolute-form); the path is what a filter is told.
fn origin_form(target: &str) -> String {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find('/').map_or("/", |slash| rest.get(slash..).unwrap_or("/")).to_owned()
        }
        _ => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line =
            br#"203.0.113.7 - bob [17/May/2015:10:05:03 +0000] "GET /a\"b\x41?q=1 HTTP/1.1" 429 12 "-" "curl \"x\"""#;
        let entry = parse(line).unwrap();
        assert_eq!(entry.request.path, "/a\"bA?q=1");
        assert_eq!((entry.request.ip.as_str(), entry.request.user.as_deref()), ("203.0.113.7", Some("bob")));
        assert_eq!((entry.status, entry.at.micros()), (Some(429), 1_431_857_103_000_000));
        let entry = parse(b"::1 - - [17/May/2015:10:05:03 +0000] \"GET http://a.test/x HTTP/1.1\" 200 -").unwrap();
        assert_eq!((entry.request.path.as_str(), entry.request.user), ("/x", None));
        let entry = parse(b"::1 - a [b] c [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.0\" 200 1").unwrap();
        assert_eq!(entry.request.user.as_deref(), Some("a [b] c"));
        for host in ["www.a.test:443", "10.0.0.1:80", "a.test"] {
            let line =
                format!("{host} 203.0.113.7 - bob [17/May/2015:10:05:03 +0000] \"GET /x HTTP/1.1\" 200 1 \"-\" \"c\"");
            let request = parse(line.as_bytes()).unwrap().request;
            assert_eq!((request.ip.as_str(), request.user.as_deref()), ("203.0.113.7", Some("bob")), "{host}");
        }
    }

    #[test]
    fn bad_lines_say_what_is_wrong() {
        for (line, wrong) in [
            (&b""[..], "no client address"),
            (b"example.org - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1", "no client address"),
            (b"192.0.2.1 hello", "no time and request"),
            (b"a.test:80 b.test - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1", "no client address"),
            (b"192.0.2.1 - - [17/Mai/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 1", "a time that is none"),
            (b"192.0.2.1 - - [17/May/2015:10:05:03 +0000] \"-\" 408 0", "no method and path"),
            (b"192.0.2.1 - - [17/May/2015:10:05:03 +0000] \"\\x16\\x03 \\x01\" 400 0", "no method and path"),
            (b"192.0.2.1 - - [17/May/2015:10:05:03 +0000] \"GET / HTT", "no end of the request"),
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(wrong), "{}", String::from_utf8_lossy(line));
        }
    }
}
