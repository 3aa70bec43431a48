//! One label value.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest label value in bytes. Longer ones, which no Kubernetes name or SPIFFE id reaches, are cut.
pub const MAX_LABEL_BYTES: usize = 1024;

/// A label value: what is missing or empty reads `unknown`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(Arc<str>);

impl Label {
    /// A value.
    pub fn new(value: &str) -> Self {
        if value.is_empty() {
            Self::unknown()
        } else {
            Self(cut(value).into())
        }
    }

    /// What stands for a value that is not known.
    pub fn unknown() -> Self {
        thread_local! {
            static UNKNOWN: Arc<str> = Arc::from("unknown");
        }
        Self(UNKNOWN.with(Arc::clone))
    }

    /// What stands for every value beyond the cap on series.
    pub(crate) fn overflow() -> Self {
        Self(Arc::from("overflow"))
    }

    /// The value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is somebody's name, and not a stand-in.
    pub(crate) fn is_name(&self) -> bool {
        !matches!(self.as_str(), "unknown" | "overflow")
    }
}

/// A label hashes and compares like its text.
impl Borrow<str> for Label {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::unknown()
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<&str> for Label {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl From<&String> for Label {
    fn from(value: &String) -> Self {
        Self::new(value)
    }
}

impl From<String> for Label {
    fn from(value: String) -> Self {
        Self::new(&value)
    }
}

impl From<&Arc<str>> for Label {
    fn from(value: &Arc<str>) -> Self {
        if value.is_empty() || value.len() > MAX_LABEL_BYTES {
            Self::new(value)
        } else {
            Self(value.clone())
        }
    }
}

impl<T> From<Option<T>> for Label
where
    Self: From<T>,
{
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Self::unknown, Self::from)
    }
}

fn cut(value: &str) -> &str {
    if value.len() <= MAX_LABEL_BYTES {
        return value;
    }
    let end = (0..=MAX_LABEL_BYTES)
        .rev()
        .find(|end| value.is_char_boundary(*end))
        .unwrap_or(0);
    &value[..end]
}
