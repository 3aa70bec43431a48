//! What is wrong with a manifest, and where.

use std::fmt;

use crate::ObjectKey;

/// One thing that is wrong with what a user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The file, as it was named to [`crate::parse`]; empty when the object did not come from text.
    pub file: String,
    /// The line, counted from 1; `None` when the object did not come from text.
    pub line: Option<usize>,
    /// The object, as far as it could be told, such as `Pod demo/web`.
    pub object: Option<String>,
    /// The path of the field, such as `spec.rules[0].to[0].operation.ports[1]`; empty for the whole document.
    pub field: String,
    /// What is wrong and what is accepted.
    pub problem: String,
}

/// `file:line: field: problem`.
impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            match self.line {
                Some(line) => write!(out, "{}:{line}: ", self.file)?,
                None => write!(out, "{}: ", self.file)?,
            }
        }
        if let Some(object) = &self.object {
            write!(out, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(out, "{}: ", self.field)?;
        }
        out.write_str(&self.problem)
    }
}

impl std::error::Error for ParseError {}

/// Everything that is wrong with what a user wrote, in the order of the text; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseErrors(pub Vec<ParseError>);

/// One line for each error.
impl fmt::Display for ParseErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            error.fmt(out)?;
        }
        Ok(())
    }
}

/// Something that is accepted but probably not what its author means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The object.
    pub object: ObjectKey,
    /// The path of the field.
    pub field: String,
    /// What happens instead, and what to do.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: {}", self.object, self.field, self.message)
    }
}
