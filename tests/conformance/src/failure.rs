use std::fmt::{self, Display};

/// Why a check did not hold, or could not be made.
#[derive(Debug)]
pub struct Failure(String);

/// What a check, or a step of one, comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Display) -> Failure {
        Failure(text.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// `Failure` is no `Error` itself, so that every error becomes one by `?`.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        Failure(text)
    }
}

/// Says what was being done when something failed.
pub trait Doing<T> {
    /// Puts `what` before the reason.
    fn doing(self, what: impl Display) -> Outcome<T>;
}

impl<T, E: Into<Failure>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| Failure(format!("{what}: {}", error.into())))
    }
}

impl<T> Doing<T> for Option<T> {
    fn doing(self, what: impl Display) -> Outcome<T> {
        self.ok_or_else(|| Failure(what.to_string()))
    }
}

/// Fails the check with the text unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::Failure::new(format!($($text)+)));
        }
    };
}

/// Fails the check unless both are equal; the text says what they are.
#[macro_export]
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($text:tt)+) => {
        // A match, so that what the values borrow from lives long enough.
        match (&$found, &$expected) {
            (found, expected) => {
                if found != expected {
                    let what = format!($($text)+);
                    return Err($crate::Failure::new(format!("{what}: found {found:?}, expected {expected:?}")));
                }
            }
        }
    };
}
