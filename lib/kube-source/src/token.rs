//! The bearer token, read again now and then because whoever renews it does not tell.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// How long a token that was read is used. A projected token is renewed when a fifth of its life is left, which is
/// at least two minutes.
const FRESH: Duration = Duration::from_secs(30);
/// The longest token read, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// Where the bearer token comes from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Token {
    source: Source,
}

#[derive(Clone)]
enum Source {
    None,
    Inline(HeaderValue),
    File(Arc<File>),
}

struct File {
    path: PathBuf,
    read: Mutex<Option<(Instant, HeaderValue)>>,
}

/// There is no token to send.
#[derive(Debug, thiserror::Error)]
#[error("the token file {path} cannot be used: {problem}; mount a service account token there", path = .path.display())]
pub(crate) struct TokenError {
    path: PathBuf,
    problem: String,
}

impl Token {
    pub(crate) fn none() -> Token {
        Token { source: Source::None }
    }

    /// One that stays; `None` where it is none that can be sent.
    pub(crate) fn inline(text: &str) -> Option<Token> {
        let header = as_header(text).ok()?;
        Some(Token {
            source: Source::Inline(header),
        })
    }

    pub(crate) fn file(path: PathBuf) -> Token {
        let read = Mutex::new(None);
        Token {
            source: Source::File(Arc::new(File { path, read })),
        }
    }

    /// The `authorization` header.
    pub(crate) async fn header(&self) -> Result<Option<HeaderValue>, TokenError> {
        let file = match &self.source {
            Source::None => return Ok(None),
            Source::Inline(header) => return Ok(Some(header.clone())),
            Source::File(file) => file,
        };
        let kept = file.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, header)) = kept
            && at.elapsed() < FRESH
        {
            return Ok(Some(header));
        }
        let header = read(&file.path).await.map_err(|problem| TokenError {
            path: file.path.clone(),
            problem,
        })?;
        let mut kept = file.read.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((Instant::now(), header.clone()));
        Ok(Some(header))
    }

    /// The server does not take the token: the next one is read from the file.
    pub(crate) fn refused(&self) {
        if let Source::File(file) = &self.source {
            *file.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

async fn read(path: &PathBuf) -> Result<HeaderValue, String> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    let mut bounded = file.take(MAX_TOKEN_BYTES + 1);
    bounded
        .read_to_string(&mut text)
        .await
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_TOKEN_BYTES {
        return Err(format!("it is longer than {MAX_TOKEN_BYTES} bytes"));
    }
    as_header(&text)
}

fn as_header(text: &str) -> Result<HeaderValue, String> {
    let token = text.trim();
    if token.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "it holds characters that a header cannot".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

/// Never the token itself.
impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::None => out.write_str("none"),
            Source::Inline(_) => out.write_str("inline"),
            Source::File(file) => write!(out, "{}", file.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_renewed_token_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::file(path.clone());
        assert!(token.header().await.is_err(), "there is no file yet");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer one");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer one");
        tokio::time::advance(FRESH).await;
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer two");
        std::fs::write(&path, "three").unwrap();
        token.refused();
        assert_eq!(token.header().await.unwrap().unwrap(), "Bearer three");
        for bad in ["", "  \n", "a\nb"] {
            std::fs::write(&path, bad).unwrap();
            token.refused();
            assert!(token.header().await.is_err(), "{bad:?}");
        }
        assert!(!format!("{token:?}").contains("three"));
    }
}
