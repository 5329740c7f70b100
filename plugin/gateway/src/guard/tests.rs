//! Requests as callers, browsers and guessers send them.

use super::*;

const TOKEN: &str = "0123456789abcdef0123";

fn tokens() -> Tokens {
    Tokens::read(Some(TOKEN.to_owned()), None).unwrap_or_else(|mistake| panic!("{mistake}"))
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn with_token(uri: &str, lines: &[(&'static str, &str)]) -> Result<(), Failure> {
    judge(&tokens(), &uri.parse().unwrap(), &headers(lines))
}

fn without_token(lines: &[(&'static str, &str)]) -> Result<(), Failure> {
    judge(&Tokens::default(), &"/".parse().unwrap(), &headers(lines))
}

#[test]
fn only_the_right_token_in_one_header_line_passes() {
    let right = format!("Bearer {TOKEN}");
    assert_eq!(with_token("/", &[("authorization", &right)]), Ok(()));
    assert_eq!(with_token("/", &[("authorization", &right.to_lowercase())]), Ok(()), "the scheme ignores case");
    for lines in [
        &[][..],
        &[("authorization", TOKEN)],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer 0123456789abcdef012")],
        &[("authorization", "Bearer 0123456789abcdef01234")],
        &[("authorization", "Bearer 0123456789ABCDEF0123")],
        &[("authorization", "Basic 0123456789abcdef0123")],
        &[("authorization", &right), ("authorization", &right)],
    ] {
        assert_eq!(with_token("/", lines), Err(Failure::Unauthorized), "{lines:?}");
    }
}

#[test]
fn a_token_in_the_url_is_refused_even_beside_the_right_header() {
    let right = format!("Bearer {TOKEN}");
    for uri in ["/get/a?_token=0123456789abcdef0123", "/?EX=1&_token", "/?%5ftoken=x"] {
        assert_eq!(with_token(uri, &[("authorization", &right)]), Err(Failure::TokenInUrl), "{uri}");
    }
    assert_eq!(with_token("/set/a/b?EX=1&x_token=2", &[("authorization", &right)]), Ok(()));
}

#[test]
fn an_origin_is_refused_with_and_without_token() {
    let right = format!("Bearer {TOKEN}");
    for origin in ["https://evil.test", "null", "http://localhost:8079"] {
        assert!(with_token("/", &[("authorization", &right), ("origin", origin)]).is_err());
        let lines = [("host", "localhost"), ("content-type", "application/json"), ("origin", origin)];
        assert!(without_token(&lines).is_err());
    }
}

#[test]
fn without_a_token_the_host_must_be_loopback() {
    let judged = |host| without_token(&[("host", host), ("content-type", "application/json")]);
    for host in ["localhost", "LOCALHOST:8079", "127.0.0.1:8079", "127.1.2.3", "[::1]:8079", "[::ffff:127.0.0.1]"] {
        assert_eq!(judged(host), Ok(()), "{host}");
    }
    for host in ["evil.test", "evil.test:8079", "localhost.evil.test", "127.0.0.1.evil.test", "10.0.0.1", "[::2]", ""] {
        assert!(judged(host).is_err(), "{host}");
    }
    assert!(without_token(&[("content-type", "application/json")]).is_err(), "no Host");
    let two = [("host", "localhost"), ("host", "evil.test"), ("content-type", "application/json")];
    assert!(without_token(&two).is_err(), "two Hosts");
    let uri = "http://evil.test/".parse().unwrap();
    let lines = headers(&[("host", "localhost"), ("content-type", "application/json")]);
    assert!(judge(&Tokens::default(), &uri, &lines).is_err(), ":authority differs");
    assert!(judge_open(&Tokens::default(), &"/metrics".parse().unwrap(), &headers(&[("host", "evil.test")])).is_err());
}

#[test]
fn without_a_token_the_body_must_be_called_json() {
    let judged = |kind| without_token(&[("host", "localhost"), ("content-type", kind)]);
    assert_eq!(judged("application/json"), Ok(()));
    assert_eq!(judged("Application/JSON ; charset=utf-8"), Ok(()));
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; application/json",
        "text/plain;application/json",
        "",
    ] {
        assert!(judged(kind).is_err(), "{kind}");
    }
    assert!(without_token(&[("host", "localhost")]).is_err());
    let two = [("host", "localhost"), ("content-type", "application/json"), ("content-type", "text/plain")];
    assert!(without_token(&two).is_err());
}

#[test]
fn token_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Tokens::read(None, Some(&path))
    };
    let both = read(&format!("{TOKEN}\n\nanother-token-of-ours\n")).unwrap_or_else(|mistake| panic!("{mistake}"));
    assert!(both.accept(TOKEN.as_bytes()) && both.accept(b"another-token-of-ours") && !both.accept(b""));
    for (text, part) in [
        ("", "no token"),
        ("short\n", "at least 16"),
        ("a token with spaces in it\n", "no spaces"),
        (&"0123456789abcdef\n".repeat(17), "at most 16"),
    ] {
        let mistake = read(text).err().unwrap_or_else(|| panic!("accepted"));
        assert!(mistake.contains(part), "{mistake}");
        assert!(!mistake.contains("0123456789abcdef") && !mistake.contains("short"), "{mistake}");
    }
    assert!(Tokens::read(None, Some(&folder.path().join("absent"))).is_err());
}
