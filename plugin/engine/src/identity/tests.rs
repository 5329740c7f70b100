//! Tests of identities: broken ids, forged chains of proxies, prefixes.

use super::*;
use crate::policy::Anonymous;
use crate::request::Header;

fn settings(user: Vec<UserSource>, trusted_hops: Option<usize>) -> IdentitySettings {
    IdentitySettings { user, anonymous: Anonymous::PerIp, trusted_hops, ipv4_prefix: 32, ipv6_prefix: 64 }
}

fn header(name: &str) -> UserSource {
    UserSource::Header { name: name.to_owned(), verified: false }
}

fn id_of(sources: Vec<UserSource>, headers: &[Header<'_>], metadata: &[Vec<u8>]) -> Option<String> {
    let request = Request { headers, peer: b"10.0.0.1:1", metadata };
    Identity::of(&request, &settings(sources, None)).user.map(|user| user.id)
}

#[test]
fn a_broken_id_is_no_id() {
    let of = |headers: &[Header<'_>]| id_of(vec![header("x-api-key")], headers, &[]);
    assert_eq!(of(&[(b"x-api-key", b"k1")]).as_deref(), Some("k1"));
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[(b"x-api-key", b"")]), None);
    assert_eq!(of(&[(b"x-api-key", b"  ")]), None);
    assert_eq!(of(&[(b"x-api-key", b"a"), (b"x-api-key", b"b")]), None);
    assert_eq!(of(&[(b"x-api-key", b"\xff\xfe")]), None);
    assert_eq!(of(&[(b"x-api-key", b"a\0b")]), None);
}

#[test]
fn a_cookie_counts_when_it_is_sent_once() {
    let of = |line: &[u8]| id_of(vec![UserSource::Cookie("session".to_owned())], &[(b"cookie", line)], &[]);
    assert_eq!(of(b"a=1; session=s1; b=2").as_deref(), Some("s1"));
    assert_eq!(of(b"session"), None);
    assert_eq!(of(b"session="), None);
    assert_eq!(of(b"session=a; session=b"), None);
    assert_eq!(of(b"session; session=b"), None);
    assert_eq!(of(b"xsession=a; sessions=b"), None);
}

#[test]
fn a_claim_counts_when_it_is_one_string() {
    let of = |payload: &str| {
        let token = format!("Bearer e30.{}.x", Base64UrlUnpadded::encode_string(payload.as_bytes()));
        let source = UserSource::JwtClaim { claim: "sub".to_owned(), header: "authorization".to_owned() };
        id_of(vec![source], &[(b"authorization", token.as_bytes())], &[])
    };
    assert_eq!(of(r#"{"sub":"alice"}"#).as_deref(), Some("alice"));
    for payload in [r#"{"sub":42}"#, r#"{"sub":""}"#, r#"{"sub":[]}"#, r#"{"sub":"a","sub":"b"}"#, "{}", "[]", "x"] {
        assert_eq!(of(payload), None, "{payload}");
    }
}

#[test]
fn the_first_source_with_a_value_counts() {
    let sources = vec![
        UserSource::Metadata(vec!["jwt".to_owned()]),
        UserSource::Metadata(vec!["other".to_owned()]),
        header("x-user"),
    ];
    let headers: [Header<'_>; 1] = [(b"x-user", b"h")];
    assert_eq!(id_of(sources.clone(), &headers, &[b"m".to_vec(), b"n".to_vec()]).as_deref(), Some("m"));
    assert_eq!(id_of(sources.clone(), &headers, &[vec![], b"n".to_vec()]).as_deref(), Some("n"));
    // A number in Envoy's metadata arrives as the eight bytes of a double.
    assert_eq!(id_of(sources.clone(), &headers, &[42f64.to_le_bytes().to_vec(), vec![]]).as_deref(), Some("h"));
    assert_eq!(id_of(sources, &headers, &[]).as_deref(), Some("h"));
}

#[test]
fn an_id_is_the_verified_text_and_no_other() {
    let metadata = vec![UserSource::Metadata(vec!["jwt".to_owned(), "sub".to_owned()])];
    let told = |id: &str| id_of(metadata.clone(), &[], &[id.as_bytes().to_vec()]);
    for id in ["root", "root ", " root", "\u{3000}root", "root\u{a0}", "a b"] {
        assert_eq!(told(id).as_deref(), Some(id), "{id:?}");
    }
    for blank in ["", " ", "\u{3000}\u{a0}"] {
        assert_eq!(told(blank), None, "{blank:?}");
    }
    let line = |value: &str| id_of(vec![header("x-user")], &[(b"x-user", value.as_bytes())], &[]);
    assert_eq!(line(" \troot\t ").as_deref(), Some("root"), "HTTP's own space around a value");
    assert_eq!(line("\u{3000}root").as_deref(), Some("\u{3000}root"));
    assert_eq!(line("ro\tot"), None);
    let cookie = id_of(vec![UserSource::Cookie("s".to_owned())], &[(b"cookie", "s=root\u{a0} ; b=1".as_bytes())], &[]);
    assert_eq!(cookie.as_deref(), Some("root\u{a0}"));
    let claim = UserSource::JwtClaim { claim: "sub".to_owned(), header: "authorization".to_owned() };
    let token = format!("Bearer e30.{}.x", Base64UrlUnpadded::encode_string(r#"{"sub": "root "}"#.as_bytes()));
    assert_eq!(id_of(vec![claim], &[(b"authorization", token.as_bytes())], &[]).as_deref(), Some("root "));
}

#[test]
fn the_address_is_counted_from_the_right_over_all_lines() {
    let of = |lines: &[&[u8]], hops| {
        let headers: Vec<Header<'_>> = lines.iter().map(|line| (&b"x-forwarded-for"[..], *line)).collect();
        let request = Request { headers: &headers, peer: b"10.0.0.1:1", metadata: &[] };
        Identity::of(&request, &settings(vec![], hops)).address.unwrap().to_string()
    };
    assert_eq!(of(&[b"1.1.1.1"], None), "10.0.0.1");
    assert_eq!(of(&[b"9.9.9.9, 1.1.1.1"], Some(1)), "1.1.1.1");
    assert_eq!(of(&[b"9.9.9.9, 1.1.1.1"], Some(2)), "9.9.9.9");
    assert_eq!(of(&[b"9.9.9.9", b"1.1.1.1"], Some(2)), "9.9.9.9");
    assert_eq!(of(&[b"9.9.9.9"], Some(2)), "10.0.0.1");
    assert_eq!(of(&[b"x, 1.2.3.4:80"], Some(1)), "1.2.3.4");
    assert_eq!(of(&[b"010.0.0.1"], Some(1)), "10.0.0.1");
    assert_eq!(of(&[b"1.1.1.1, "], Some(1)), "10.0.0.1");
    let long = "7.7.7.7,".repeat(5000) + "8.8.8.8";
    assert_eq!(of(&[long.as_bytes()], Some(1)), "8.8.8.8");
}

#[test]
fn a_v6_client_counts_by_its_64_and_a_mapped_one_as_v4() {
    let settings = settings(vec![], None);
    let of = |text: &str| Subject::address(parse_address(text.as_bytes()), &settings);
    assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::9"));
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    assert_eq!(of("::ffff:102:304"), of("1.2.3.4"));
}

#[test]
fn equal_values_of_different_kinds_differ() {
    let user = |verified| User { id: "1.2.3.4".to_owned(), verified, may_be_secret: false };
    let address = Subject { kind: Kind::Address, value: b"1.2.3.4".to_vec() };
    assert_ne!(Subject::user(&user(true)).digest(), Subject::user(&user(false)).digest());
    assert_ne!(Subject::user(&user(true)).digest(), address.digest());
}

#[test]
fn whoever_nobody_verified_is_kept_by_a_digest() {
    let user = User { id: "s3cret".to_owned(), verified: false, may_be_secret: true };
    let subject = Subject::user(&user);
    // SHA-256 of "us3cret", the first half.
    assert_eq!(subject.digest(), 0x2523_88de_df88_4de5_b045_6ff6_c345_32dc_u128.to_be_bytes());
    assert_eq!(subject, Subject::unverified(subject.digest()));
    assert!(!String::from_utf8_lossy(&subject.value).contains("s3cret"));
}
