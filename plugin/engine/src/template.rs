//! Endpoint templates: `/api/search`, `/v1/users/{id}`, `/static/*`.
//! Which readings of a request's path are tried is `matching`'s; this file only compares.

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
    /// segment, or a character that the normalised reading of a path never has (`%`, `?`, `#`, `;`, `\`, controls).
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a path that starts with \"/\"".to_owned());
        };
        if let Some(bad) = text.chars().find(|c| c.is_control() || matches!(c, '%' | '?' | '#' | ';' | '\\')) {
            let bad = quoted(bad.encode_utf8(&mut [0; 4]));
            return Err(format!("a path written decoded and without query; {bad} cannot stand in it"));
        }
        let (middle, ending) = match rest {
            "" => ("", Ending::Exact),
            "*" => ("", Ending::Below),
            _ => match (rest.strip_suffix("/*"), rest.strip_suffix('/')) {
                (Some(middle), _) => (middle, Ending::Below),
                (None, Some(middle)) => (middle, Ending::Slash),
                (None, None) => (rest, Ending::Exact),
            },
        };
        let mut segments = Vec::new();
        if !matches!(rest, "" | "*") {
            for part in middle.split('/') {
                segments.push(Segment::parse(part)?);
            }
        }
        Ok(Self { text: text.to_owned(), segments, ending })
    }

    /// The template as the policy writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same template for paths that are compared in lower case.
    #[must_use]
    pub fn to_loose(&self) -> Self {
        let lower = |segment: &Segment| match segment {
            Segment::Literal(text) => Segment::Literal(text.to_ascii_lowercase()),
            Segment::Any => Segment::Any,
        };
        Self { text: self.text.clone(), segments: self.segments.iter().map(lower).collect(), ending: self.ending }
    }

    /// Whether a path, as sent and without its query, matches to the letter.
    pub fn matches_as_sent(&self, path: &[u8]) -> bool {
        self.matches(path, self.ending)
    }

    /// Whether a normalised path matches: it has no trailing slash, so the template's own counts for nothing.
    pub fn matches_normalised(&self, path: &[u8]) -> bool {
        let ending = if self.ending == Ending::Slash { Ending::Exact } else { self.ending };
        self.matches(path, ending)
    }

    /// Linear in the template's length, however long the path is.
    fn matches(&self, path: &[u8], ending: Ending) -> bool {
        let Some(mut rest) = path.strip_prefix(b"/") else { return false };
        let mut at_end = self.segments.is_empty() && rest.is_empty();
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                // The slash before this segment was consumed with the one before; a path that ended there is too short.
                if at_end {
                    return false;
                }
            }
            let bounded = match segment {
                // Never look further for the end of a literal segment than its own length.
                Segment::Literal(text) => rest.get(..=text.len()).unwrap_or(rest),
                Segment::Any => rest,
            };
            let length = bounded.iter().position(|byte| *byte == b'/').unwrap_or(bounded.len());
            let (found, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            let fits = match segment {
                Segment::Literal(text) => found == text.as_bytes(),
                Segment::Any => !found.is_empty(),
            };
            if !fits {
                return false;
            }
            at_end = after.is_empty();
            rest = after.strip_prefix(b"/").unwrap_or(after);
        }
        match ending {
            Ending::Exact => at_end,
            Ending::Slash => !at_end && rest.is_empty(),
            Ending::Below => self.segments.is_empty() || !at_end,
        }
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
            assert_eq!(parsed.matches_as_sent(path.as_bytes()), as_sent, "{template} as sent {path}");
            assert_eq!(parsed.matches_normalised(path.as_bytes()), normalised, "{template} normalised {path}");
        }
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
