//! The bearer token.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use http::HeaderValue;

/// The longest token read, in bytes. A header of this size passes every server in use.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// Where the bearer token comes from. `Debug` does not show an inline token.
#[derive(Clone, Default)]
pub enum Token {
    /// No token is sent.
    #[default]
    None,
    /// A file, read for every call: whoever renews it need not tell us.
    File(PathBuf),
    /// The token itself.
    Inline(String),
}

/// Why there is no token to send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("the token file {} cannot be read: {message}; mount a service account token for audience istio-ca there", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
    /// The file is empty, too long, or holds something that cannot be sent.
    #[error("the token {origin} cannot be sent: {reason}")]
    Unusable {
        /// The file, or that it was given inline.
        origin: String,
        /// What is wrong. Never the token.
        reason: &'static str,
    },
}

impl Token {
    /// Reads the form of `AUTH_TOKEN`: a path if a file is there or the text looks like one, else the token.
    pub fn from_setting(text: &str) -> Self {
        match text {
            "" => Self::None,
            _ if text.contains('/') || Path::new(text).exists() => Self::File(PathBuf::from(text)),
            _ => Self::Inline(text.to_owned()),
        }
    }

    /// The `authorization` header for one call.
    pub(crate) async fn authorization(&self) -> Result<Option<HeaderValue>, TokenError> {
        let (text, origin) = match self {
            Self::None => return Ok(None),
            Self::Inline(text) => (text.clone(), "given inline".to_owned()),
            Self::File(path) => (read(path.clone()).await?, format!("in {}", path.display())),
        };
        let unusable = |reason| TokenError::Unusable {
            origin: origin.clone(),
            reason,
        };
        let token = text.trim();
        if token.is_empty() {
            return Err(unusable("it is empty"));
        }
        if token.len() as u64 > MAX_TOKEN_BYTES {
            return Err(unusable("it is too long"));
        }
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| unusable("it contains characters that a header cannot hold"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Inline(_) => f.write_str("Inline(..)"),
        }
    }
}

async fn read(path: PathBuf) -> Result<String, TokenError> {
    let failed = {
        let path = path.clone();
        move |error: io::Error| TokenError::Read {
            path: path.clone(),
            message: error.to_string(),
        }
    };
    let work = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        fs::File::open(path)?
            .take(MAX_TOKEN_BYTES + 2)
            .read_to_string(&mut text)?;
        Ok(text)
    });
    match work.await {
        Ok(outcome) => outcome.map_err(failed),
        Err(stopped) => Err(failed(io::Error::other(stopped))),
    }
}

#[cfg(test)]
mod tests;
