use std::io;

/// Why a lab command failed. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The user asked for something impossible, or gave a file that cannot be accepted.
    #[error("{0}")]
    Usage(String),
    /// The lab is not running.
    #[error("the lab `{0}` is not up; start it with `ztctl lab up --name {0} MANIFEST...`")]
    NotUp(String),
    /// The lab runs already.
    #[error("the lab `{0}` is up already; end it with `ztctl lab down --name {0}`, or choose another --name")]
    AlreadyUp(String),
    /// Something ran and ended badly: the answer is no.
    #[error("{0}")]
    Failed(String),
    /// A deadline passed; the text names who is late.
    #[error("{0}")]
    Late(String),
    /// The operating system refused.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: String,
        /// What the system answered.
        source: io::Error,
    },
}

impl LabError {
    /// The exit code of the command that met this error: 1 the answer is no, 2 used wrongly, 3 could not find out.
    pub fn exit_code(&self) -> u8 {
        match self {
            LabError::Usage(_) | LabError::NotUp(_) | LabError::AlreadyUp(_) => 2,
            LabError::Failed(_) => 1,
            LabError::Late(_) | LabError::System { .. } => 3,
        }
    }

    pub(crate) fn system<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> LabError {
        move |source| LabError::System {
            doing: doing.into(),
            source: source.into(),
        }
    }
}

/// For errors of other rooms that are not an `io::Error`: keeps their text.
pub(crate) fn other<E: std::fmt::Display>(doing: impl Into<String>) -> impl FnOnce(E) -> LabError {
    move |source| LabError::System {
        doing: doing.into(),
        source: io::Error::other(source.to_string()),
    }
}
