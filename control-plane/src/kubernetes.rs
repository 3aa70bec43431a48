//! What is asked of a Kubernetes API beside watching objects: keeping the authority's secret, reviewing tokens,
//! telling every namespace the roots, taking requests to exchange them, telling other replicas what was seen, finding other
//! clusters.

pub(crate) mod ca_reports;
pub(crate) mod clusters;
pub(crate) mod root_bundle;
pub(crate) mod rotation_request;
pub(crate) mod secret;
pub(crate) mod token_review;

#[cfg(test)]
pub(crate) mod testing;

use std::error::Error as _;
use std::time::Duration;

use http::Request;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// How long an answer about one object is waited for.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A request failed. No text in here repeats what was sent or answered but the server's own message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// The server answered with an error.
    #[error("{message} ({code})")]
    Answer { code: u16, message: String },
    /// There was no answer, or it broke off.
    #[error("{0}")]
    Unreachable(String),
    /// The answer is not what was asked for.
    #[error("the API server's answer cannot be read")]
    Unreadable,
}

/// The answer to a question about one object, if it comes in time.
pub(crate) async fn in_time<T>(asking: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    match tokio::time::timeout(ANSWER_DEADLINE, asking).await {
        Ok(answer) => answer.map_err(|error| ApiError::of(&error)),
        Err(_) => Err(ApiError::Unreachable(format!(
            "no answer within {} s",
            ANSWER_DEADLINE.as_secs()
        ))),
    }
}

impl ApiError {
    pub(crate) fn code(&self) -> u16 {
        match self {
            ApiError::Answer { code, .. } => *code,
            _ => 0,
        }
    }

    fn of(error: &kube::Error) -> ApiError {
        match error {
            kube::Error::Api(status) => ApiError::Answer {
                code: status.code,
                message: shortened(&status.message),
            },
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => ApiError::Unreadable,
            _ => {
                let mut text = error.to_string();
                let mut cause = error.source();
                while let Some(error) = cause {
                    text = error.to_string();
                    cause = error.source();
                }
                ApiError::Unreachable(text)
            }
        }
    }
}

/// Sends a request whose answer may hold secrets. The client's own way writes an answer that it cannot read to the
/// log, whole; this one does not.
async fn ask<T: DeserializeOwned>(
    client: &kube::Client,
    request: Request<Vec<u8>>,
    deadline: Duration,
) -> Result<T, ApiError> {
    let answer = match tokio::time::timeout(deadline, client.request_text(request)).await {
        Ok(answer) => Zeroizing::new(answer.map_err(|error| ApiError::of(&error))?),
        Err(_) => {
            let seconds = deadline.as_secs();
            return Err(ApiError::Unreachable(format!("no answer within {seconds} s")));
        }
    };
    serde_json::from_str(&answer).map_err(|_| ApiError::Unreadable)
}

/// The beginning of a message of somebody else: enough to act on.
fn shortened(message: &str) -> String {
    const MOST: usize = 300;
    match message.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}
