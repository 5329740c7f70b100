//! Whether a crate's licence expression allows what the shipped files need.
//! Not here: which crates there are (`crates`), and the list (`deny.toml`).

/// The licences that `deny.toml` allows: each asks no more than to be named.
pub(super) fn listed(deny: &str) -> Vec<String> {
    let (_, section) = deny.split_once("[licenses]").unwrap_or_default();
    let (_, list) = section.split_once("allow = [").unwrap_or_default();
    let list = list.split(']').next().unwrap_or_default();
    // The odd pieces between quotes are the names.
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression (with `OR`, `AND`, brackets, or the old `/` for OR) can be met with these licences.
pub(super) fn is_allowed(expression: &str, licences: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = either(&mut rest, licences);
    allowed && rest.is_empty() && !words.last().is_some_and(|word| ["OR", "AND", "WITH"].contains(word))
}

/// `AND` binds tighter than `OR` (SPDX 2.3, annex D.4).
fn either(rest: &mut &[&str], licences: &[String]) -> bool {
    let mut allowed = both(rest, licences);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        let other = both(rest, licences);
        allowed = allowed || other;
    }
    allowed
}

fn both(rest: &mut &[&str], licences: &[String]) -> bool {
    let mut allowed = one(rest, licences);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        let other = one(rest, licences);
        allowed = allowed && other;
    }
    allowed
}

fn one(rest: &mut &[&str], licences: &[String]) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let inner = either(rest, licences);
            let [")", tail @ ..] = *rest else {
                return false;
            };
            *rest = tail;
            inner
        }
        [name, "WITH", exception, tail @ ..] => {
            *rest = tail;
            licences.contains(&format!("{name} WITH {exception}"))
        }
        [name, tail @ ..] => {
            *rest = tail;
            licences.iter().any(|it| it == name)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_the_licences() {
        let deny = "[bans]\nallow = [\"no\"]\n[licenses]\nallow = [\n    \"MIT\",\n    \"Zlib\",\n]\n[sources]\nallow = [\"no\"]\n";
        assert_eq!(listed(deny), ["MIT", "Zlib"]);
        assert_eq!(listed("[bans]\n"), [""; 0]);
    }

    #[test]
    fn expressions_are_read_as_spdx_says() {
        let licences =
            ["Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MIT", "Unicode-3.0", "Zlib"].map(str::to_owned);
        let is_allowed = |expression| is_allowed(expression, &licences);
        for allowed in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "GPL-3.0 AND MIT OR Zlib",
        ] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 WITH LLVM-exception", "(MIT", "MIT)", "MIT OR"] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }
}
