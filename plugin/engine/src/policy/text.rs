//! The kinds of strings in a policy: what may stand in a name, a header, a cluster, a path.

use super::mistake::scheme;
use super::shape::{TextKind, for_editors};
use crate::address::Cidr;
use crate::template::Template;

/// A condition on all bytes of a string as a check.
macro_rules! every {
    ($allows:expr) => {
        |text| {
            let allows: fn(u8) -> bool = $allows;
            if text.bytes().all(allows) { Ok(()) } else { Err(String::new()) }
        }
    };
}

/// Names that become parts of metrics, headers and keys.
pub(super) const NAME: &TextKind = &TextKind {
    allowed: "1 to 64 of A-Z a-z 0-9 _ -",
    pattern: for_editors("^[A-Za-z0-9_-]+$"),
    min: 1,
    max: 64,
    check: every!(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'),
};

/// Names of headers, methods and cookies: tokens of RFC 9110, section 5.6.2.
pub(super) const TOKEN: &TextKind = &TextKind {
    allowed: "1 to 128 of A-Z a-z 0-9 ! # $ % & ' * + - . ^ _ ` | ~",
    pattern: for_editors("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
    min: 1,
    max: 128,
    check: every!(is_token),
};

/// Identities, claims and metadata keys.
pub(super) const IDENTIFIER: &TextKind = &TextKind {
    allowed: "1 to 1024 characters without control characters",
    pattern: for_editors("^[^\\u0000-\\u001f\\u007f]+$"),
    min: 1,
    max: 1024,
    check: every!(|byte| !byte.is_ascii_control()),
};

/// A remark that logs carry: nothing in it moves a cursor, breaks a line or reorders what is shown.
pub(super) const REMARK: &TextKind = &TextKind {
    allowed: "up to 500 characters without control characters",
    pattern: "",
    min: 0,
    max: 500,
    check: |text| if text.chars().all(is_harmless) { Ok(()) } else { Err(String::new()) },
};

/// A rule's name, or all of them.
pub(super) const RULE_OR_ALL: &TextKind = &TextKind {
    allowed: "the name of a rule, or \"*\" for all",
    pattern: for_editors("^([A-Za-z0-9_-]+|\\*)$"),
    min: 1,
    max: 64,
    check: |text| if text == "*" { Ok(()) } else { (NAME.check)(text) },
};

/// Whatever a person writes for others to read.
pub(super) const PROSE: &TextKind =
    &TextKind { allowed: "up to 4096 characters", pattern: "", min: 0, max: 4096, check: |_| Ok(()) };

/// Which requests, by path.
pub(super) const ENDPOINT: &TextKind = &TextKind {
    allowed: "a path such as \"/api/search\", \"/v1/users/{id}\" or \"/static/*\"",
    pattern: for_editors("^/[^%?#;\\\\\\u0000-\\u001f\\u007f]*$"),
    min: 1,
    max: 1024,
    check: |text| Template::parse(text).map(|_| ()),
};

/// Which requests, by address.
pub(super) const ADDRESS_RANGE: &TextKind = &TextKind {
    allowed: "an address or a range such as \"192.168.1.0/24\" or \"2001:db8::/32\"",
    pattern: for_editors("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"),
    min: 2,
    max: 64,
    check: |text| {
        let more = |reason| format!("an address or a range such as \"192.168.1.0/24\" or \"2001:db8::/32\" ({reason})");
        Cidr::parse(text).map(|_| ()).map_err(more)
    },
};

/// The name of one of the host's clusters.
pub(super) const CLUSTER: &TextKind = &TextKind {
    allowed: "the name of a cluster of the proxy, 1 to 256 visible ASCII characters, not a URL",
    pattern: for_editors("^(?!.*://)[!-~]+$"),
    min: 1,
    max: 256,
    check: |text| if is_visible(text) && scheme(text).is_none() { Ok(()) } else { Err(String::new()) },
};

/// A host, perhaps with a port: what a callout sends as `:authority`.
pub(super) const AUTHORITY: &TextKind = &TextKind {
    allowed: "a host such as \"api.example.com\", \"10.0.0.1:8079\" or \"[::1]:80\"",
    pattern: for_editors("^[A-Za-z0-9._:\\[\\]-]+$"),
    min: 1,
    max: 255,
    check: every!(|byte| byte.is_ascii_alphanumeric() || b"._:[]-".contains(&byte)),
};

/// The path that a callout asks for.
pub(super) const REQUEST_PATH: &TextKind = &TextKind {
    allowed: "a path that starts with \"/\", of visible ASCII characters",
    pattern: for_editors("^/[!-~]*$"),
    min: 1,
    max: 2048,
    check: |text| if text.starts_with('/') && is_visible(text) { Ok(()) } else { Err(String::new()) },
};

/// The path that the admin API is served under: compared byte for byte, so it has one spelling only.
pub(super) const ADMIN_PATH: &TextKind = &TextKind {
    allowed: "a path such as \"/.tidegate\": segments of A-Z a-z 0-9 . _ ~ -, no slash at the end",
    pattern: for_editors("^(/(?!\\.{1,2}(/|$))[A-Za-z0-9._~-]+)+$"),
    min: 2,
    max: 256,
    check: |text| {
        let fits = |part: &str| {
            let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte));
            plain && !matches!(part, "" | "." | "..")
        };
        match text.strip_prefix('/') {
            Some(rest) if rest.split('/').all(fits) => Ok(()),
            _ => Err(String::new()),
        }
    },
};

/// A SHA-256 in hexadecimal.
pub(super) const SHA256: &TextKind = &TextKind {
    allowed: "the SHA-256 of the token: 64 hexadecimal digits",
    pattern: for_editors("^[0-9A-Fa-f]+$"),
    min: 64,
    max: 64,
    check: every!(|byte| byte.is_ascii_hexdigit()),
};

/// A credential that is sent in a header.
pub(super) const CREDENTIAL: &TextKind = &TextKind {
    allowed: "1 to 4096 visible ASCII characters",
    pattern: for_editors("^[!-~]+$"),
    min: 1,
    max: 4096,
    check: every!(|byte| byte.is_ascii_graphic()),
};

/// The user of basic credentials: a colon would end it (RFC 7617, section 2).
pub(super) const BASIC_USER: &TextKind = &TextKind {
    allowed: "1 to 256 visible ASCII characters without \":\"",
    pattern: for_editors("^[!-9;-~]+$"),
    min: 1,
    max: 256,
    check: every!(|byte| byte.is_ascii_graphic() && byte != b':'),
};

/// The value of a header that Tidegate sets.
pub(super) const HEADER_VALUE: &TextKind = &TextKind {
    allowed: "up to 4096 printable ASCII characters",
    pattern: for_editors("^[ -~]*$"),
    min: 0,
    max: 4096,
    check: every!(|byte| byte.is_ascii_graphic() || byte == b' '),
};

fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_allow_what_they_say() {
        for (kind, good, bad) in [
            (NAME, "api_per-user", "a b"),
            (TOKEN, "x-api-key", "x api"),
            (IDENTIFIER, "zoë@example.com", "a\nb"),
            (ENDPOINT, "/v1/users/{id}", "v1"),
            (ADDRESS_RANGE, "::1", "1.2.3.4/33"),
            (CLUSTER, "outbound|80||redis.default.svc.cluster.local", "redis://x"),
            (AUTHORITY, "[::1]:80", "a/b"),
            (REQUEST_PATH, "/a?b", "/a b"),
            (ADMIN_PATH, "/.tidegate", "/a/../b"),
            (ADMIN_PATH, "/a/b", "/a/"),
            (SHA256, "00ff", "xx"),
            (CREDENTIAL, "AX:=/", "a b"),
            (BASIC_USER, "default", "a:b"),
            (HEADER_VALUE, "a b", "a\r\nb"),
        ] {
            assert!((kind.check)(good).is_ok(), "{good}");
            assert!((kind.check)(bad).is_err(), "{bad}");
        }
    }
}
