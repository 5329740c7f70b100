//! What each URL means, and that no mistake tells a password.

use super::*;

fn at(host: &str, port: u16) -> Address {
    Address { host: host.to_owned(), port }
}

fn mistake(url: &str) -> String {
    Target::parse(url).err().unwrap_or_else(|| panic!("{url} was accepted"))
}

#[test]
fn a_single_server() {
    let target = Target::parse("redis://localhost").unwrap();
    assert_eq!(target.layout, Layout::Single(at("localhost", 6379)));
    assert_eq!((target.database, target.tls), (0, false));

    let target = Target::parse("rediss://app:p%40ss%3A%2F@[::1]:7000/3").unwrap();
    assert_eq!(target.layout, Layout::Single(at("::1", 7000)));
    assert_eq!(target.credentials.user.as_deref(), Some("app"));
    assert_eq!(target.credentials.password.as_deref(), Some("p@ss:/"));
    assert_eq!((target.database, target.tls), (3, true));

    let target = Target::parse("redis://:only@h").unwrap();
    assert!(target.credentials.user.is_none());
    assert_eq!(target.credentials.password.as_deref(), Some("only"));
}

#[test]
fn sentinels_with_and_without_a_master_name() {
    let layout = |url: &str| {
        let target = Target::parse(url).unwrap();
        (target.layout, target.database)
    };
    let sentinel = |sentinels: Vec<Address>, master: &str| Layout::Sentinel { sentinels, master: master.to_owned() };
    assert_eq!(layout("sentinel://localhost:26379/0"), (sentinel(vec![at("localhost", 26379)], "mymaster"), 0));
    assert_eq!(layout("sentinel://a,b:1/orders/2"), (sentinel(vec![at("a", 26379), at("b", 1)], "orders"), 2));
    assert_eq!(layout("sentinel://a/orders"), (sentinel(vec![at("a", 26379)], "orders"), 0));

    let target = Target::parse("sentinel://u:r@a/0?sentinel_user=s&sentinel_password=p%26q").unwrap();
    assert_eq!(target.credentials.user.as_deref(), Some("u"));
    assert_eq!(target.sentinel_credentials.user.as_deref(), Some("s"));
    assert_eq!(target.sentinel_credentials.password.as_deref(), Some("p&q"));
}

#[test]
fn a_cluster() {
    let target = Target::parse("redis-cluster://a:1,b:2,c:3/0").unwrap();
    assert_eq!(target.layout, Layout::Cluster(vec![at("a", 1), at("b", 2), at("c", 3)]));
    assert!(Target::parse("rediss-cluster://a:1").unwrap().tls);
    assert!(mistake("redis-cluster://a:1/4").contains("database 0 only"));
}

#[test]
fn mistakes_say_what_is_allowed_and_tell_no_secret() {
    for (url, part) in [
        ("localhost:6379", "not a URL"),
        ("http://u:hunter2@h", "unknown scheme"),
        ("redis://hunter2@h", "needs a password"),
        ("redis://u:hunter2@h:0", "1 to 65535"),
        ("redis://u:hunter2@h:99999", "1 to 65535"),
        ("redis://u:hunter2@h/x", "number of a database"),
        ("redis://u:hunter2@h/1/2/3", "too many parts"),
        ("redis://u:hunter2@", "empty or malformed"),
        ("redis://u:hunter2@a,b", "takes one host"),
        ("redis://u:hunter2@[::1", "lacks its `]`"),
        ("redis://u:hunter2@h?sentinel_password=x", "only sentinel://"),
        ("sentinel://u:hunter2@h/0?password=x", "only sentinel://"),
        ("redis://u:hunter2%ff@h", "not UTF-8"),
    ] {
        let mistake = mistake(url);
        assert!(mistake.contains(part), "{url}: {mistake}");
        assert!(!mistake.contains("hunter2"), "{url}: {mistake}");
    }
}

#[test]
fn a_target_in_a_log_shows_no_credentials() {
    let shown = Target::parse("sentinel://u:hunter2@a,b/m/1?sentinel_password=hunter3").unwrap().to_string();
    assert_eq!(shown, "master m/1 of sentinels a:26379,b:26379");
}
