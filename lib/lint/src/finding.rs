//! One thing that is to be said about a manifest.

use std::fmt;

use objects::ReadObject;
use serde::Serialize;

use crate::code::{Code, Severity};

/// One thing that is to be said about a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The object, such as `AuthorizationPolicy shop/allow-web`; empty when a text holds none that could be told.
    pub object: String,
    /// The path of the field, such as `spec.rules[0]`; empty for the whole object.
    pub field: String,
    /// What it is about.
    pub code: Code,
    /// What happens, and why.
    pub why: String,
    /// What to do.
    pub fix: String,
    /// The file, when the object comes from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in the file, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl Finding {
    /// A finding about a field of an object, as bad as its code says.
    pub(crate) fn about(
        read: &ReadObject,
        code: Code,
        field: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        let field = field.into();
        let line = read.line(&field);
        Finding {
            severity: code.severity(),
            object: read.object.key().to_string(),
            field,
            code,
            why: why.into(),
            fix: fix.into(),
            file: (!read.file.is_empty()).then(|| read.file.clone()),
            line: (line > 0).then_some(line),
        }
    }

    /// The same with another severity.
    pub(crate) fn rated(self, severity: Severity) -> Finding {
        Finding { severity, ..self }
    }
}

/// `file:line: error[code]: object: field: why Fix: fix`, on one line.
impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            match self.line {
                Some(line) => write!(out, "{file}:{line}: ")?,
                None => write!(out, "{file}: ")?,
            }
        }
        write!(out, "{}[{}]: ", self.severity.as_str(), self.code.as_str())?;
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(out, "{part}: ")?;
            }
        }
        write!(out, "{}. Fix: {}", self.why, self.fix)
    }
}
