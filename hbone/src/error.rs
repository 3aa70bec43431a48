use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use h2::Reason;

/// Why an HTTP/2 connection is over.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionEnd {
    /// The byte stream ended without an error: nobody needed the connection any more, or the peer closed it.
    #[error("the connection was closed")]
    Finished,
    /// The peer did not answer a ping, nor send anything else.
    #[error("the peer did not answer a ping for {0:?}")]
    PingTimeout(Duration),
    /// The peer did not complete the HTTP/2 preface in time.
    #[error("the peer did not start HTTP/2 within {0:?}")]
    HandshakeTimeout(Duration),
    /// The owner on this side closed it at once, for this reason.
    #[error("closed by this proxy: {0}")]
    ByOwner(Cow<'static, str>),
    /// The peer closed it with an error code (GOAWAY).
    #[error("closed by the peer with GOAWAY {0}")]
    ByPeer(Cow<'static, str>),
    /// The peer broke the HTTP/2 protocol or a limit.
    #[error("the peer violated HTTP/2: {0}")]
    Protocol(Cow<'static, str>),
    /// The byte stream underneath failed.
    #[error("the connection was lost: {0}")]
    Io(Arc<std::io::Error>),
}

impl ConnectionEnd {
    pub(crate) fn from_h2(error: h2::Error) -> Self {
        if error.is_io() {
            return match error.into_io() {
                Some(io) => Self::Io(Arc::new(io)),
                None => Self::Protocol("unknown I/O error".into()),
            };
        }
        let code = error.reason().map_or_else(|| error.to_string().into(), code_name);
        if error.is_remote() {
            if error.reason() == Some(Reason::NO_ERROR) {
                Self::Finished
            } else {
                Self::ByPeer(code)
            }
        } else {
            Self::Protocol(code)
        }
    }
}

/// Why a CONNECT did not become a tunnel.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The peer answered with a status other than 200: 401 is a denial by policy, 503 an application that could not
    /// be reached.
    #[error("the peer answered CONNECT with status {0}")]
    Status(u16),
    /// The request surely did not reach the peer's application: it may be sent again on another connection.
    #[error("the request was not sent: {0}")]
    NotSent(Cow<'static, str>),
    /// The peer reset the stream with this HTTP/2 error code before it answered.
    #[error("the peer reset the request with {0}")]
    Reset(Cow<'static, str>),
    /// The connection ended before an answer came; whether the peer acted on the request is unknown.
    #[error("the tunnel connection ended before the answer: {0}")]
    Lost(Cow<'static, str>),
    /// Nothing came from the peer while the request waited, not even the answer to a ping within this time. Whether
    /// the peer acted on the request is unknown, but no byte of the application was sent.
    #[error("the peer is silent: no answer to a ping within {0:?}")]
    Silent(Duration),
    /// The authority or a header cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Invalid(Cow<'static, str>),
}

impl ConnectError {
    /// Whether the request surely did not reach the peer's application, so that sending it again cannot repeat it.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NotSent(_))
    }

    /// Whether another connection may well do better, and the request may be sent there: it surely did not reach the
    /// application, or the peer is silent and the application has at most seen a connection without a byte.
    pub fn may_be_sent_again(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Silent(_))
    }

    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Status(_) => "http_status",
            Self::NotSent(_) => "not_sent",
            Self::Reset(_) => "stream_reset",
            Self::Lost(_) => "connection_lost",
            Self::Silent(_) => "peer_silent",
            Self::Invalid(_) => "invalid_request",
        }
    }
}

/// The name of an HTTP/2 error code (RFC 9113 §7).
pub(crate) fn code_name(reason: Reason) -> Cow<'static, str> {
    match reason {
        Reason::NO_ERROR => "NO_ERROR".into(),
        Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR".into(),
        Reason::INTERNAL_ERROR => "INTERNAL_ERROR".into(),
        Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR".into(),
        Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT".into(),
        Reason::STREAM_CLOSED => "STREAM_CLOSED".into(),
        Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR".into(),
        Reason::REFUSED_STREAM => "REFUSED_STREAM".into(),
        Reason::CANCEL => "CANCEL".into(),
        Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR".into(),
        Reason::CONNECT_ERROR => "CONNECT_ERROR".into(),
        Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM".into(),
        Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY".into(),
        Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED".into(),
        other => format!("code {}", u32::from(other)).into(),
    }
}
