//! A policy file: reading it, checking it, and showing what is wrong with it where it stands.

pub(crate) mod edit;
mod secrets;
mod snippet;
mod write;

pub(crate) use secrets::mask;
pub(crate) use snippet::Place;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tidegate_engine::catalogue::Catalogue;
use tidegate_engine::policy::{Mistake, Mistakes, Policy, Warning};

use crate::failure::Failure;
use crate::screen::{Screen, Style, complain, visible};

/// One byte more than the engine reads, so that it can say that it is too long.
const LONGEST: u64 = (1 << 20) + 1;

/// A policy file as it was read.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A mistake or a warning, with where it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Remark {
    pub(crate) pointer: String,
    pub(crate) line: Option<usize>,
    pub(crate) column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allowed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) suggestion: Option<String>,
    pub(crate) message: String,
}

impl PolicyFile {
    /// Reads a file; nothing is checked.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::file("read", path, error);
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| Failure::file("read", path, format!("not UTF-8: {}", error.utf8_error())))?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// The compiled policy.
    pub(crate) fn parse(&self) -> Result<Policy, Mistakes> {
        Policy::parse(self.text.as_bytes(), &Catalogue::builtin())
    }

    /// The compiled policy; of one with mistakes they are shown on standard error, and the command's answer is no.
    pub(crate) fn accepted(&self) -> Option<Policy> {
        let told = |mistakes: &Mistakes| complain(self.shown_mistakes(mistakes, Screen::plain()).trim_end());
        self.parse().inspect_err(told).ok()
    }

    /// The mistakes with their places.
    pub(crate) fn mistakes(&self, mistakes: &Mistakes) -> Vec<Remark> {
        mistakes.iter().map(|mistake| Remark::of_mistake(&self.text, mistake)).collect()
    }

    /// The policy's warnings with their places.
    pub(crate) fn warnings(&self, policy: &Policy) -> Vec<Remark> {
        policy.warnings.iter().map(|warning| Remark::of_warning(&self.text, warning)).collect()
    }

    /// The mistakes as lines for people, each with the line of the file that it is about.
    pub(crate) fn shown_mistakes(&self, mistakes: &Mistakes, screen: Screen) -> String {
        let mut out = self.shown(&self.mistakes(mistakes), "mistake", Style::Red, screen);
        if mistakes.left_off() > 0 {
            out.push_str(&format!("... and {} more\n", mistakes.left_off()));
        }
        out
    }

    /// Remarks as lines for people.
    pub(crate) fn shown(&self, remarks: &[Remark], word: &str, style: Style, screen: Screen) -> String {
        let masked = mask(&self.text);
        let name = self.path.display().to_string();
        let mut out = String::new();
        for remark in remarks {
            let place = remark.place();
            let position = place.map_or_else(String::new, |place| format!(":{}:{}", place.line, place.column));
            let heading = screen.paint(Style::Bold, &format!("{}{position}:", visible(&name)));
            out.push_str(&format!("{heading} {}: {}\n", screen.paint(style, word), visible(&remark.message)));
            if let Some(place) = place {
                out.push_str(&snippet::snippet(&masked, place, style, screen));
            }
        }
        out
    }
}

impl Remark {
    fn of_mistake(text: &str, mistake: &Mistake) -> Self {
        let place = Place::of_mistake(text, mistake);
        Self {
            pointer: mistake.pointer.clone(),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            found: Some(mistake.found.clone()),
            allowed: Some(mistake.allowed.clone()),
            suggestion: mistake.suggestion.clone(),
            message: mistake.to_string(),
        }
    }

    fn of_warning(text: &str, warning: &Warning) -> Self {
        let place = Place::of_pointer(text, &warning.pointer);
        Self {
            pointer: warning.pointer.clone(),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            found: None,
            allowed: None,
            suggestion: None,
            message: format!("{}: {}", warning.pointer, warning.message),
        }
    }

    fn place(&self) -> Option<Place> {
        Some(Place { line: self.line?, column: self.column? })
    }
}
