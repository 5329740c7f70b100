//! What the parts of a policy look like: the vocabulary that `format` is written in, `walk` checks by and `schema`
//! translates. Custom strategies describe their options with it.

/// Whether this build serves people who edit policies: the schema is made natively and the command line runs natively. A
/// .wasm carries nothing that is for them alone.
pub(super) const FOR_EDITORS: bool = !cfg!(target_family = "wasm");

/// A text that only editors show.
pub const fn for_editors(text: &'static str) -> &'static str {
    if FOR_EDITORS { text } else { "" }
}

/// A member of an object.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// What may stand there.
    pub shape: Shape,
    /// Whether it may be absent, and what that means.
    pub presence: Presence,
    /// Whether its value must never be shown.
    pub is_secret: bool,
    /// What it is for: one or two sentences, for editors.
    pub doc: &'static str,
}

/// Whether a member may be absent.
#[derive(Clone, Copy, Debug)]
pub enum Presence {
    /// It may not.
    Required,
    /// It may; the doc says what that means.
    Optional,
    /// It may, and then counts as this JSON text.
    Default(&'static str),
}

/// What a value may be.
#[derive(Debug)]
pub enum Shape {
    /// A whole number, written in digits alone.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A number, perhaps with a fraction; its bounds have none.
    Number {
        /// Less than the smallest.
        above: i64,
        /// The largest.
        up_to: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// A string.
    Text(&'static TextKind),
    /// One of some words, each with its meaning.
    OneOf(&'static [(&'static str, &'static str)]),
    /// A list.
    List {
        /// What each entry is.
        of: &'static Shape,
        /// The fewest entries.
        min: usize,
        /// The most entries.
        max: usize,
    },
    /// An object with these members and no others.
    Object(&'static [Member]),
    /// An object whose member `type` names its kind.
    Typed(&'static [Kind]),
    /// An object of the first kind whose name is one of its members.
    ByMember(&'static [Kind]),
    /// An object with members of any name: header names with their values.
    Headers {
        /// The most members.
        max: usize,
    },
    /// The first of these that allows the found kind of value.
    Either(&'static [Shape]),
    /// A string, or any object or list: the body of an answer.
    Content,
    /// The name of an algorithm in the catalogue.
    Algorithm,
    /// The name of a strategy in the catalogue, or an object with its `type` and options.
    Strategy,
}

/// One kind of an object that may be of several.
#[derive(Debug)]
pub struct Kind {
    /// Its name: the value of `type`, or the member that tells it.
    pub name: &'static str,
    /// Its members (without `type`).
    pub members: &'static [Member],
    /// What it is.
    pub doc: &'static str,
}

/// A kind of string.
#[derive(Debug)]
pub struct TextKind {
    /// What a message says may stand there.
    pub allowed: &'static str,
    /// The same as a regular expression for the schema; empty where none can say it.
    pub pattern: &'static str,
    /// The fewest characters.
    pub min: usize,
    /// The most characters.
    pub max: usize,
    /// Checks all but the length. An `Err` that is not empty says more precisely what is allowed.
    pub check: fn(&str) -> Result<(), String>,
}

impl Member {
    /// A member that must be there.
    pub const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, presence: Presence::Required, is_secret: false, doc: for_editors(doc) }
    }

    /// A member that may be absent; `doc` says what that means.
    pub const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, presence: Presence::Optional, is_secret: false, doc: for_editors(doc) }
    }

    /// A member that counts as the JSON text `default` where it is absent.
    pub const fn or(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Self {
        Self { name, shape, presence: Presence::Default(default), is_secret: false, doc: for_editors(doc) }
    }

    /// The same member, its value never shown in a message.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }
}
