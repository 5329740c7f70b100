//! Whether a crate's licence expression allows what the shipped files need.
//! Not here: which crates there are (`crates`).

/// Licences that code in this repository may be combined with; each asks no more than to be named.
const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an SPDX expression (with `OR`, `AND`, brackets, or the old `/` for OR) can be met with allowed licences.
pub(super) fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = either(&mut rest);
    allowed && rest.is_empty() && !words.last().is_some_and(|word| ["OR", "AND", "WITH"].contains(word))
}

/// `AND` binds tighter than `OR` (SPDX 2.3, annex D.4).
fn either(rest: &mut &[&str]) -> bool {
    let mut allowed = both(rest);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        let other = both(rest);
        allowed = allowed || other;
    }
    allowed
}

fn both(rest: &mut &[&str]) -> bool {
    let mut allowed = one(rest);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        let other = one(rest);
        allowed = allowed && other;
    }
    allowed
}

fn one(rest: &mut &[&str]) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let inner = either(rest);
            let [")", tail @ ..] = *rest else {
                return false;
            };
            *rest = tail;
            inner
        }
        [name, "WITH", exception, tail @ ..] => {
            *rest = tail;
            ALLOWED.contains(&format!("{name} WITH {exception}").as_str())
        }
        [name, tail @ ..] => {
            *rest = tail;
            ALLOWED.contains(name)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_says() {
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
