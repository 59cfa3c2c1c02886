//! The table that requests are held to: members, where they travel, whether they are required, and their bounds.
//!
//! It says about requests what the service model says, in the same terms, so that the two can be compared by a machine
//! (`tests/model`). [`check`](mod@check) walks it.

pub mod bounds;
pub mod check;
pub(crate) mod connectors;
mod forms;
pub mod inputs;
pub(crate) mod logs;
mod patterns;

use serde_json::{Map, Value};

use crate::ApiError;

/// One member of a structure.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Its name on the wire.
    pub name: &'static str,
    /// Must it be there?
    pub required: bool,
    /// Where it travels.
    pub location: Location,
    /// What it may be.
    pub shape: &'static Shape,
    /// Is its largest value a server's [`bounds::Longest`], of which `shape` has the default?
    pub life: bool,
}

/// Where a member of a request travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In the JSON body.
    Body,
    /// As a label of the path.
    Path,
    /// As a parameter of the query.
    Query,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    Text(Text),
    /// A 32-bit integer in bounds, both inclusive.
    Integer {
        /// Smallest.
        min: i32,
        /// Largest.
        max: i32,
    },
    /// A 64-bit integer in bounds, both inclusive.
    Long {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A boolean.
    Boolean,
    /// One of those names.
    Enum(&'static [&'static str]),
    /// Members.
    Structure(&'static [Member]),
    /// Exactly one of the members.
    Union(&'static [Member]),
    /// Items of one shape; the number in bounds, both inclusive.
    List {
        /// Fewest.
        min: usize,
        /// Most; `usize::MAX` is no bound.
        max: usize,
        /// Each.
        item: &'static Shape,
    },
    /// Strings to strings.
    Map {
        /// Most; `usize::MAX` is no bound.
        max: usize,
        /// Each key.
        key: Text,
        /// Each value.
        value: Text,
    },
}

/// A string; the length in Unicode characters, both bounds inclusive.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Shortest.
    pub min: usize,
    /// Longest; `usize::MAX` is no bound.
    pub max: usize,
    /// What all of it must match.
    pub pattern: Option<Pattern>,
    /// May it not be repeated in messages?
    pub sensitive: bool,
    /// What it must mean, checked after all bounds of the whole request hold.
    pub form: Option<Form>,
}

/// A regular expression of the model and code that decides it.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    /// As the model writes it, for messages.
    pub text: &'static str,
    /// Does the whole text match?
    pub matches: fn(&str) -> bool,
}

/// Decides what a text means; gets the whole request, for words that name another member.
pub type Form = fn(request: &Map<String, Value>, text: &str) -> Result<(), ApiError>;

impl Text {
    /// Any string.
    pub const ANY: Text = Text { min: 0, max: usize::MAX, pattern: None, sensitive: false, form: None };

    const fn of(min: usize, max: usize) -> Self {
        Text { min, max, ..Text::ANY }
    }

    const fn pattern(self, pattern: Pattern) -> Self {
        Text { pattern: Some(pattern), ..self }
    }

    const fn form(self, form: Form) -> Self {
        Text { form: Some(form), ..self }
    }

    const fn sensitive(self) -> Self {
        Text { sensitive: true, ..self }
    }
}

impl Member {
    const fn body(name: &'static str, shape: &'static Shape) -> Self {
        Member { name, required: false, location: Location::Body, shape, life: false }
    }

    const fn query(name: &'static str, shape: &'static Shape) -> Self {
        Member { name, required: false, location: Location::Query, shape, life: false }
    }

    const fn path(name: &'static str, shape: &'static Shape) -> Self {
        Member { name, required: true, location: Location::Path, shape, life: false }
    }

    const fn life(self) -> Self {
        Member { life: true, ..self }
    }

    const fn required(self) -> Self {
        Member { required: true, ..self }
    }
}
