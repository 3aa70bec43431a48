//! Why a stream ended.

use std::error::Error;

use tonic::Code;

use crate::client::Termination;

/// Why a stream ended or could not be opened. Says who is at fault and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The address or a header is malformed.
    #[error("configuration: {0}")]
    Configuration(grpc_channel::ConfigError),
    /// There is no stream.
    #[error("{}", describe(.0))]
    Open(tonic::Status),
    /// There was one.
    #[error("{}", describe(.0))]
    Failed(tonic::Status),
    /// The stream takes no more requests.
    #[error("the stream was closed while an answer was to be sent")]
    RequestsEnded,
}

impl StreamError {
    pub(crate) fn termination(&self) -> Termination {
        match self {
            Self::Configuration(_) | Self::Open(_) => Termination::ConnectionError,
            Self::RequestsEnded => Termination::Error,
            Self::Failed(status) if is_planned(status) => Termination::Reconnect,
            Self::Failed(_) => Termination::Error,
        }
    }
}

/// Whether the connection ended as connections to a control plane regularly do: it is stopping, rebalancing, or the
/// connection has reached its age.
fn is_planned(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        Code::Unknown | Code::Cancelled | Code::DeadlineExceeded
    ) || causes(status).any(|cause| {
        // h2 is not named here; its text is the public sign of a GOAWAY without an error.
        let text = cause.to_string();
        text.contains("not a result of an error") || text.contains("GoAway")
    })
}

fn describe(status: &tonic::Status) -> String {
    let mut what = status.message().to_owned();
    for cause in causes(status) {
        let cause = cause.to_string();
        // Wrappers repeat what they wrap.
        if !cause.is_empty() && !what.contains(&cause) {
            what = if what.is_empty() {
                cause
            } else {
                format!("{what}: {cause}")
            };
        }
    }
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => format!(
            "it refuses this client ({what}); check the token, and that the control plane accepts its service account"
        ),
        Code::Unavailable => format!(
            "it cannot be reached ({what}); check that it runs, its address, and the root certificate it is verified by"
        ),
        Code::Unimplemented => format!("it does not serve delta xDS ({what}); check the address"),
        // Whichever side does not read it says so: gRPC libraries by one of two codes and one of these words.
        Code::OutOfRange | Code::ResourceExhausted
            if what.contains(" too large") || what.contains("larger than") =>
        {
            format!("a message is too large ({what})")
        }
        Code::OutOfRange | Code::ResourceExhausted => format!("a limit is reached ({what})"),
        code => format!("the stream failed with {code:?} ({what})"),
    }
}

fn causes(status: &tonic::Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    fn next<'e>(error: &&'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
        (*error).source()
    }
    std::iter::successors(status.source(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_called_what_it_is() {
        let words = |code, words: &str| StreamError::Failed(tonic::Status::new(code, words)).to_string();
        for (code, message) in [
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (9 vs. 4)",
            ),
        ] {
            let text = words(code, message);
            assert!(
                text.starts_with("a message is too large (") && text.contains(message),
                "{text}"
            );
        }
        assert_eq!(
            words(Code::ResourceExhausted, "too many streams of this pod are open"),
            "a limit is reached (too many streams of this pod are open)"
        );
    }
}
