//! Which name was probably meant by a wrong one: the nearest by spelling, or ours for what other products call it.

use super::shape::FOR_EDITORS;

/// A longer name is compared with none: each comparison takes as many steps as both have characters, multiplied.
const LONGEST: usize = 60;

/// Words of other products and protocols, each with what it may mean here; the first that may stand in a place counts.
const WORDS: &[(&str, &[&str])] = &[
    ("action", &["strategy"]),
    ("active", &["enforce", "enabled"]),
    ("address", &["per_ip", "authority"]),
    ("all", &["global"]),
    ("anonymous_users", &["anonymous"]),
    ("api_key", &["per_user", "header", "token"]),
    ("average", &["rate"]),
    ("block", &["hard"]),
    ("bucket_size", &["burst"]),
    ("capacity", &["burst"]),
    ("cidr", &["ip_addresses"]),
    ("client", &["per_ip"]),
    ("closed", &["deny"]),
    ("consumer", &["per_user"]),
    ("count", &["rate"]),
    ("degrade", &["graceful"]),
    ("delay", &["throttle"]),
    ("deny", &["hard"]),
    ("descriptors", &["rules"]),
    ("disabled", &["enabled"]),
    ("draft", &["draft11"]),
    ("dry_run", &["shadow", "mode"]),
    ("duration", &["window_seconds", "duration_minutes"]),
    ("fail_closed", &["deny"]),
    ("fail_open", &["allow", "on_store_error"]),
    ("fill_interval", &["window_seconds"]),
    ("gcra", &["token_bucket"]),
    ("host", &["authority"]),
    ("hostname", &["authority"]),
    ("ietf", &["draft11"]),
    ("in_memory", &["local"]),
    ("interval", &["window_seconds"]),
    ("ip", &["per_ip", "ip_addresses"]),
    ("ips", &["ip_addresses"]),
    ("jwt", &["jwt_claim"]),
    ("key", &["scope"]),
    ("limit", &["rate"]),
    ("limit_by", &["scope"]),
    ("limits", &["rules"]),
    ("log_only", &["shadow"]),
    ("match", &["endpoints"]),
    ("max", &["rate"]),
    ("max_requests", &["rate"]),
    ("max_tokens", &["burst"]),
    ("memory", &["local"]),
    ("monitor", &["shadow"]),
    ("none", &["off"]),
    ("open", &["allow"]),
    ("path", &["per_endpoint", "endpoints"]),
    ("paths", &["endpoints"]),
    ("per", &["window_seconds"]),
    ("period", &["window_seconds"]),
    ("quota", &["rate"]),
    ("rate_limits", &["rules"]),
    ("rate_per_unit", &["rate"]),
    ("reject", &["retry_after"]),
    ("remote_addr", &["per_ip"]),
    ("report_only", &["shadow"]),
    ("requests", &["rate"]),
    ("requests_per_unit", &["rate"]),
    ("route", &["per_endpoint", "endpoints"]),
    ("routes", &["endpoints"]),
    ("sliding_log", &["sliding_window"]),
    ("test", &["shadow"]),
    ("tokens", &["rate"]),
    ("trusted", &["verified"]),
    ("ttl", &["window_seconds"]),
    ("unit", &["window_seconds"]),
    ("uri", &["endpoints"]),
    ("url", &["endpoints"]),
    ("user", &["per_user", "user_ids"]),
    ("user_id", &["per_user"]),
    ("users", &["user_ids"]),
    ("verb", &["methods"]),
    ("wait", &["throttle"]),
    ("weight", &["cost"]),
    ("whitelist", &["admins"]),
    ("x_ratelimit", &["legacy"]),
];

/// The one of `names` that was probably meant by what was `written`; `None` where none is near.
pub(super) fn meant<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    if written.len() > LONGEST {
        return None;
    }
    let written = plain(written);
    nearest(&written, names).or_else(|| if FOR_EDITORS { translated(&written, names) } else { None })
}

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// The name that stands for a word of others, or that has it as a part of four letters and more (`window`, `sliding`).
fn translated<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    let ours = WORDS.iter().find(|(word, _)| *word == written).map(|(_, ours)| *ours).unwrap_or_default();
    let known = ours.iter().find_map(|ours| names.iter().find(|name| *name == ours));
    let has_it = |name: &&&str| written.len() > 3 && name.split('_').any(|part| part == written);
    known.or_else(|| names.iter().find(has_it)).copied()
}

/// The name nearest to what was written: one edit away for each three characters, at least one, but not all of it.
fn nearest<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    let length = written.chars().count();
    let worst = (length / 3).max(1).min(length.saturating_sub(1));
    names
        .iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (distance(written, &plain(name)), *name))
        .filter(|(edits, _)| *edits <= worst)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// How many insertions, deletions, replacements and swaps of neighbours turn `from` into `to`: Damerau's distance in its
/// restricted form (brust, burst: 1; kitten, sitting: 3).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
    let mut before = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (line, a) in from.chars().enumerate() {
        let mut row = vec![line.saturating_add(1)];
        for (column, b) in to.iter().enumerate() {
            let next = column.saturating_add(1);
            let mut edits = at(&above, column).saturating_add(usize::from(a != *b));
            edits = edits.min(at(&row, column).saturating_add(1)).min(at(&above, next).saturating_add(1));
            if let Some(last) = column.checked_sub(1)
                && previous == Some(*b)
                && to.get(last) == Some(&a)
            {
                edits = edits.min(at(&before, last).saturating_add(1));
            }
            row.push(edits);
        }
        before = core::mem::replace(&mut above, row);
        previous = Some(a);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALGORITHMS: [&str; 4] = ["token_bucket", "leaky_bucket", "fixed_window", "sliding_window"];

    #[test]
    fn near_names_are_found_and_far_ones_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("brust", "burst"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(meant("token_buket", &ALGORITHMS), Some("token_bucket"));
        assert_eq!(meant("Token-Bucket", &ALGORITHMS), Some("token_bucket"));
        assert_eq!(meant("cheese", &ALGORITHMS), None);
        assert_eq!(meant("x", &["a"]), None);
    }

    #[test]
    fn words_of_others_are_translated() {
        for (written, expected) in [
            ("sliding", "sliding_window"),
            ("fixed", "fixed_window"),
            ("GCRA", "token_bucket"),
            ("leaky", "leaky_bucket"),
        ] {
            assert_eq!(meant(written, &ALGORITHMS), Some(expected), "{written}");
        }
        let scopes = ["global", "per_user", "per_ip", "per_endpoint"];
        for (written, expected) in
            [("ip", "per_ip"), ("user", "per_user"), ("endpoint", "per_endpoint"), ("all", "global")]
        {
            assert_eq!(meant(written, &scopes), Some(expected), "{written}");
        }
        let members = ["name", "scope", "rate", "window_seconds", "burst", "endpoints", "user_ids", "ip_addresses"];
        for (written, expected) in [
            ("limit", "rate"),
            ("requests", "rate"),
            ("period", "window_seconds"),
            ("window", "window_seconds"),
            ("path", "endpoints"),
            ("ip", "ip_addresses"),
        ] {
            assert_eq!(meant(written, &members), Some(expected), "{written}");
        }
        assert_eq!(meant("ip", &ALGORITHMS), None);
        assert_eq!(meant("per", &ALGORITHMS), None);
    }

    #[test]
    fn every_word_is_plain_and_stands_once() {
        for pair in WORDS.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
        }
        assert!(WORDS.iter().all(|(word, ours)| plain(word) == *word && !ours.is_empty()));
    }
}
