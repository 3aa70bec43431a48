//! Strict reading of YAML that is not a Kubernetes object: the same reader, with the same bounds and the same errors
//! with file, line and field.

pub use crate::read::{Field, Fields};

use crate::document::{self, MAX_NODES, MAX_TEXT_BYTES};
use crate::error::{ParseError, ParseErrors};
use crate::object::Object;
use crate::parse;
use crate::read::Reader;

/// How much of a text is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest text, in bytes.
    pub bytes: usize,
    /// How many values it may hold, aliases expanded.
    pub values: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: MAX_TEXT_BYTES,
            values: MAX_NODES,
        }
    }
}

/// Reads `text`, which must hold exactly one document, with `read`. `file` is how messages name the text. A field
/// that `read` did not ask for is an error where it calls [`Fields::finish`].
///
/// # Errors
/// All that is wrong, in the order of the text: syntax, or what `read` recorded.
pub fn read_one<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&Field<'_>) -> Option<T>,
) -> Result<T, ParseErrors> {
    read_one_within(file, text, Limits::default(), read)
}

/// [`read_one`] with other limits.
///
/// # Errors
/// As [`read_one`].
pub fn read_one_within<T>(
    file: &str,
    text: &str,
    limits: Limits,
    read: impl FnOnce(&Field<'_>) -> Option<T>,
) -> Result<T, ParseErrors> {
    let problem = |line: usize, problem: String| ParseError {
        file: file.to_owned(),
        line: (line > 0).then_some(line),
        object: None,
        field: String::new(),
        problem,
    };
    let (documents, errors) = document::read_within(text, limits.bytes, limits.values);
    if !errors.is_empty() {
        let errors = errors.into_iter();
        return Err(ParseErrors(
            errors.map(|error| problem(error.line, error.problem)).collect(),
        ));
    }
    let [tree] = documents.as_slice() else {
        let found = format!("holds {} documents; exactly one is expected", documents.len());
        return Err(ParseErrors(vec![problem(1, found)]));
    };
    let reader = Reader::new(file, None);
    let value = read(&Field::root(&reader, tree));
    let errors = reader.into_errors();
    match value {
        Some(value) if errors.is_empty() => Ok(value),
        _ if errors.is_empty() => Err(ParseErrors(vec![problem(1, "cannot be read".to_owned())])),
        _ => Err(ParseErrors(errors)),
    }
}

impl Field<'_> {
    /// A Kubernetes object inside of the text, read as [`crate::parse`] reads one.
    pub fn object(&self) -> Option<Object> {
        match parse::object(self.file(), self.tree()) {
            Ok(object) => Some(object),
            Err(errors) => {
                self.record_inside(errors);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
