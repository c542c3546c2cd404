//! The one error of the example: a sentence for a person, with what was known when it happened.

use std::fmt;

#[derive(Debug, Clone)]
pub(crate) struct Failure(String);

pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Adds what the person may do about it.
    pub(crate) fn hint(self, text: impl fmt::Display) -> Self {
        Self(format!("{}\n  hint: {text}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when something failed.
pub(crate) trait Why<T> {
    fn why<S: fmt::Display>(self, what: impl FnOnce() -> S) -> Outcome<T>;
}

impl<T, E: fmt::Display> Why<T> for Result<T, E> {
    fn why<S: fmt::Display>(self, what: impl FnOnce() -> S) -> Outcome<T> {
        self.map_err(|error| Failure::new(format!("{}: {error}", what())))
    }
}
