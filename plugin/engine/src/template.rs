//! Endpoint templates: `/api/search`, `/v1/users/{id}`, `/static/*`.
//! Which readings of a request's path are tried is `matching`'s; this file only compares.

use crate::path::{MOST_SEGMENTS, Reading, loose};
use crate::policy::mistake::quoted;

/// A path pattern of literal segments, `{name}` for exactly one segment, and a last `*` for everything below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
    ending: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Nothing may follow.
    Exact,
    /// Written with a trailing slash.
    Slash,
    /// `/*`: the slash and anything after it.
    Below,
}

impl Template {
    /// Reads a template. It is written decoded: `/my files`, not `/my%20files`.
    ///
    /// # Errors
    /// Says what is wrong: no leading slash, a `*` that is not the last segment, an unclosed `{`, an empty or dot
    /// segment, more than 512 segments, or a character that the normalised reading of a path never has (`%`, `?`, `#`,
    /// `;`, `\`, controls).
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a path that starts with \"/\"".to_owned());
        };
        if let Some(bad) = text.chars().find(|c| c.is_control() || matches!(c, '%' | '?' | '#' | ';' | '\\')) {
            let bad = quoted(bad.encode_utf8(&mut [0; 4]));
            return Err(format!("a path written decoded and without query; {bad} cannot stand in it"));
        }
        let (middle, ending) = match (rest.strip_suffix("/*"), rest.strip_suffix('/')) {
            _ if rest == "*" => (None, Ending::Below),
            (Some(middle), _) => (Some(middle), Ending::Below),
            (None, Some(middle)) => (Some(middle), Ending::Slash),
            (None, None) => (Some(rest), Ending::Exact),
        };
        let mut segments = Vec::new();
        if rest.is_empty() {
            // The root is the one path with an empty segment alone.
            segments.push(Segment::Literal(String::new()));
        } else if let Some(middle) = middle {
            for part in middle.split('/') {
                segments.push(Segment::parse(part)?);
            }
        }
        if segments.len() > MOST_SEGMENTS {
            return Err(format!("a path of at most {MOST_SEGMENTS} segments"));
        }
        Ok(Self { text: text.to_owned(), segments, ending })
    }

    /// The template as the policy writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same template for paths that are compared in lower case and without trailing dots and spaces.
    #[must_use]
    pub fn to_loose(&self) -> Self {
        let loosened = |segment: &Segment| match segment {
            Segment::Literal(text) => {
                let length = loose(text.as_bytes()).len();
                Segment::Literal(text.get(..length).unwrap_or(text).to_ascii_lowercase())
            }
            Segment::Any => Segment::Any,
        };
        Self { text: self.text.clone(), segments: self.segments.iter().map(loosened).collect(), ending: self.ending }
    }

    /// Whether a path, as sent and without its query, matches to the letter.
    pub fn matches_as_sent(&self, path: &Reading<'_>) -> bool {
        self.matches(path, self.ending)
    }

    /// Whether a normalised path matches: it has no trailing slash, so the template's own counts for nothing.
    pub fn matches_normalised(&self, path: &Reading<'_>) -> bool {
        let ending = if self.ending == Ending::Slash { Ending::Exact } else { self.ending };
        self.matches(path, ending)
    }

    /// Linear in the template's length, however long the path is.
    fn matches(&self, path: &Reading<'_>, ending: Ending) -> bool {
        let own = self.segments.len();
        let has_as_many = match ending {
            Ending::Exact => path.count() == own,
            Ending::Slash => path.count() == own.saturating_add(1),
            Ending::Below => path.count() > own,
        };
        let mut found = path.segments();
        let mut fits = |segment: &Segment| match (segment, found.next()) {
            (Segment::Literal(text), Some(found)) => found == text.as_bytes(),
            (Segment::Any, Some(found)) => !found.is_empty(),
            (_, None) => false,
        };
        has_as_many && self.segments.iter().all(&mut fits) && (ending != Ending::Slash || found.next() == Some(b""))
    }
}

impl Segment {
    fn parse(part: &str) -> Result<Self, String> {
        match part {
            "" => Err("a path without empty segments".to_owned()),
            "." | ".." => Err("a path without dot segments".to_owned()),
            "*" => Err("\"*\" as the last segment only".to_owned()),
            _ if part.starts_with('{') && part.ends_with('}') && part.len() > 2 => Ok(Self::Any),
            _ if part.contains(['{', '}', '*']) => {
                Err("\"{name}\" or \"*\" as a whole segment, nothing beside it".to_owned())
            }
            _ => Ok(Self::Literal(part.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Readings;

    #[test]
    fn a_template_matches_what_it_says() {
        for (template, path, as_sent, normalised) in [
            ("/", "/", true, true),
            ("/", "/a", false, false),
            ("/*", "/", true, true),
            ("/*", "/a/b", true, true),
            ("/api/search", "/api/search", true, true),
            ("/api/search", "/api/search/", false, false),
            ("/api/search", "/api/searches", false, false),
            ("/api/search", "/api", false, false),
            ("/api/search/", "/api/search/", true, false),
            ("/api/search/", "/api/search", false, true),
            ("/v1/users/{id}", "/v1/users/7", true, true),
            ("/v1/users/{id}", "/v1/users/", false, false),
            ("/v1/users/{id}", "/v1/users/7/x", false, false),
            ("/v1/{a}/x", "/v1/7/x", true, true),
            ("/static/*", "/static/", true, true),
            ("/static/*", "/static", false, false),
            ("/static/*", "/static/a/b", true, true),
            ("/static/*", "/statics/a", false, false),
            ("/api", "", false, false),
            ("/api", "*", false, false),
        ] {
            let parsed = Template::parse(template).unwrap();
            let reading = Readings::of(path.as_bytes(), false).as_sent;
            assert_eq!(parsed.matches_as_sent(&reading), as_sent, "{template} as sent {path}");
            assert_eq!(parsed.matches_normalised(&reading), normalised, "{template} normalised {path}");
        }
    }

    #[test]
    fn a_loose_template_matches_what_it_says_in_any_case_and_without_trailing_dots() {
        for (template, path) in [
            ("/api/Search.", "/api/search"),
            ("/api/Search.", "/API/search. "),
            ("/api./search", "/api./search"),
            ("/api./search", "/api/search"),
            ("/My files /*", "/my files/x"),
        ] {
            let loose = Template::parse(template).unwrap().to_loose();
            let Readings { as_sent, normalised, .. } = Readings::of(path.as_bytes(), true);
            assert!(loose.matches_as_sent(&as_sent) && loose.matches_normalised(&normalised), "{template} {path}");
        }
        let dots = Template::parse("/a/.../b").unwrap().to_loose();
        assert!(dots.matches_as_sent(&Readings::of(b"/A/.../b.", true).as_sent));
    }

    #[test]
    fn a_template_is_as_deep_as_what_it_matches() {
        let deep = |segments: usize| "/a".repeat(segments);
        let matches = |template: &str, path: &str| {
            Template::parse(template).unwrap().matches_as_sent(&Readings::of(path.as_bytes(), false).as_sent)
        };
        assert!(matches(&deep(512), &deep(512)));
        assert!(!matches(&deep(512), &deep(513)));
        assert!(matches(&(deep(512) + "/"), &(deep(512) + "/")));
        assert!(!matches(&(deep(512) + "/"), &(deep(512) + "//")));
        assert!(matches(&(deep(512) + "/*"), &deep(600)));
        assert!(Template::parse(&deep(513)).unwrap_err().contains("512"));
    }

    #[test]
    fn mistakes_are_told() {
        for text in
            ["", "api", "/a//b", "/a/../b", "/*/a", "/a*", "/{}", "/a%20b", "/a?b", "/a;b", "/a/{b", "/a/./b", "//"]
        {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
