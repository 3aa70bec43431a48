//! What is wrong with a setting.

/// A variable that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    /// The value is not of the kind expected.
    #[error("{variable}={value:?} cannot be used: {accepted}")]
    Invalid {
        /// Name of the variable.
        variable: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        accepted: String,
    },
    /// The variable has no default and is not set.
    #[error("{variable} is not set; {purpose}")]
    Missing {
        /// Name of the variable.
        variable: &'static str,
        /// What it is needed for.
        purpose: &'static str,
    },
    /// Two settings that exclude each other.
    #[error("{one} and {other} are both set; {remedy}")]
    Exclusive {
        /// One variable.
        one: &'static str,
        /// The other.
        other: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The mesh configuration cannot be read.
    #[error("{origin} cannot be used: {problem}")]
    MeshConfig {
        /// `PROXY_CONFIG` or the file.
        origin: String,
        /// What is wrong, with the line.
        problem: String,
    },
}

pub(super) fn invalid(variable: &str, value: &str, accepted: &str) -> ConfigError {
    ConfigError::Invalid {
        variable: variable.into(),
        value: value.into(),
        accepted: accepted.into(),
    }
}
