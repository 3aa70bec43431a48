//! Why a connection was not served, or ended early: who is to blame, a stable code, a sentence.

use crate::connections::CloseReason;
use crate::identities::CertificateError;
use crate::pod_proxy::INBOUND_PORT;
use mesh::authorize::Decision;
use mesh::route::Refusal;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use telemetry::ResponseFlags;
use tls::HandshakeError;

/// Why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Configuration: the control plane has not told us about the connection's own pod.
    #[error("the control plane does not know pod {0} yet; nothing is sent in its name until it does")]
    OwnWorkloadUnknown(String),
    /// Configuration: the model refuses the destination.
    #[error("{0}")]
    Route(Refusal),
    /// Application: it addressed one of this proxy's own ports.
    #[error("{0} is a port of the proxy itself, not of an application")]
    ProxyPort(SocketAddr),
    /// Peer: it asks for what this pod does not serve.
    #[error("{0}")]
    Target(mesh::inbound::Refusal),
    /// Network or configuration: what the connection waits for was not found out.
    #[error("{0}")]
    LookUp(String),
    /// Network: no endpoint was reached in the time that one connection has.
    #[error("{destination} was not reached within {seconds} s")]
    TooLate {
        /// What the client wants to reach.
        destination: SocketAddr,
        /// The time it had.
        seconds: u64,
    },
    /// A failure on the far side of the gateway of another network.
    #[error("behind gateway {gateway}: {failure}")]
    Behind {
        /// The gateway.
        gateway: SocketAddr,
        /// What went wrong there.
        failure: Box<Failure>,
    },
    /// System: no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Peer or configuration: TLS failed.
    #[error("TLS with {peer}: {error}")]
    Tls {
        /// The other proxy.
        peer: SocketAddr,
        /// What went wrong.
        error: HandshakeError,
    },
    /// Peer: TLS was fine, HTTP/2 was not.
    #[error("HTTP/2 with {peer}: {error}")]
    Tunnel {
        /// The other proxy.
        peer: SocketAddr,
        /// What went wrong.
        error: String,
    },
    /// The failure of a tunnel that several connections waited for.
    #[error("{0}")]
    Shared(Arc<Failure>),
    /// Application or network: nothing answers there.
    #[error("cannot connect to {to}: {error}{}", hint(.to, .error))]
    Connect {
        /// Where.
        to: SocketAddr,
        /// What went wrong.
        error: io::Error,
    },
    /// Peer: it refused the connection by status.
    #[error("{}", status_sentence(.peer, .status))]
    PeerStatus {
        /// The other proxy.
        peer: SocketAddr,
        /// HTTP status.
        status: u16,
    },
    /// Policy: refused here.
    #[error("{0}")]
    Denied(Box<Decision>),
    /// Peer: the request is not one that this proxy serves.
    #[error("{0}")]
    BadRequest(String),
    /// Peer: too many connections of it have not proven who they are.
    #[error(
        "too many connections from {0} have not proven who they are yet; further ones are reset until some have"
    )]
    TooManyHandshakes(IpAddr),
    /// Peers: too many requests wait for their answer.
    #[error(
        "{most} requests in tunnels to pod {pod} wait for their answer already; further ones are refused until some have it"
    )]
    TooManyRequests {
        /// The pod.
        pod: String,
        /// How many may wait.
        most: usize,
    },
    /// Peers, or an application: what is sent to them is not read, and fills the memory that there is for it.
    #[error(
        "the tunnels of pod {0} hold as many unread bytes as they may (ZTUNNEL_MAX_BUFFERED_BYTES): their peers do not read; further connections are refused until they do"
    )]
    BuffersFull(String),
    /// Closed from outside while open.
    #[error("{0}")]
    Closed(CloseReason),
    /// One side was reset.
    #[error("{0}")]
    Reset(String),
    /// A connection was lost.
    #[error("{0}")]
    Lost(String),
    /// System.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl Failure {
    /// Stable word for metrics and logs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::OwnWorkloadUnknown(_) => "own_workload_unknown",
            Self::Route(refusal) => refusal.code(),
            Self::ProxyPort(_) => "proxy_port",
            Self::Target(refusal) => refusal.code(),
            Self::LookUp(_) => "look_up_failed",
            Self::TooLate { .. } => "reach_deadline",
            Self::Behind { failure, .. } => failure.code(),
            Self::Certificate(CertificateError::Expired { .. }) => "own_certificate_expired",
            Self::Certificate(_) => "no_own_certificate",
            Self::Tls { error, .. } => error.code(),
            Self::Tunnel { .. } => "http2",
            Self::Shared(failure) => failure.code(),
            Self::Connect { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused => {
                "connection_refused"
            }
            Self::Connect { error, .. } if error.kind() == io::ErrorKind::TimedOut => "connect_timeout",
            Self::Connect { .. } => "connect_failed",
            Self::PeerStatus { status: 401, .. } => "denied_by_peer",
            Self::PeerStatus { status: 503, .. } => "unavailable_at_peer",
            Self::PeerStatus { .. } => "peer_status",
            Self::Denied(decision) => decision.reason.code(),
            Self::BadRequest(_) => "bad_request",
            Self::TooManyHandshakes(_) => "too_many_handshakes",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::BuffersFull(_) => "buffers_full",
            Self::Closed(reason) => reason.code(),
            Self::Reset(_) => "reset",
            Self::Lost(_) => "lost",
            Self::System(_) => "system",
        }
    }

    /// The flag that existing dashboards know.
    pub(crate) fn flags(&self) -> ResponseFlags {
        match self {
            Self::Denied(_) | Self::Closed(CloseReason::Policy(_)) => ResponseFlags::Denied,
            Self::Tls {
                error: HandshakeError::CertificateRevoked,
                ..
            }
            | Self::Closed(CloseReason::PeerUntrusted(HandshakeError::CertificateRevoked)) => {
                ResponseFlags::CertRevoked
            }
            Self::Tls { .. } | Self::Closed(CloseReason::PeerUntrusted(_)) => ResponseFlags::TlsFailure,
            Self::Tunnel { .. } => ResponseFlags::H2HandshakeFailure,
            Self::Shared(failure) => failure.flags(),
            Self::Behind { failure, .. } => failure.flags(),
            Self::Certificate(_) => ResponseFlags::IdentityError,
            Self::Connect { to, error } if looks_blocked(to, error) => ResponseFlags::NetworkPolicy,
            _ => ResponseFlags::Connect,
        }
    }

    /// The status with which a tunnel request is refused.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Denied(_) => 401,
            Self::BadRequest(_) => 400,
            Self::Target(refusal) => refusal.status(),
            _ => 503,
        }
    }

    /// Whether another endpoint may be tried: nothing of the connection has reached an application, and nobody
    /// has said no.
    pub(crate) fn may_try_elsewhere(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Tls { .. } | Self::Tunnel { .. } => true,
            Self::PeerStatus { status, .. } => *status == 503,
            Self::Shared(failure) => failure.may_try_elsewhere(),
            Self::Behind { failure, .. } => failure.may_try_elsewhere(),
            _ => false,
        }
    }

    /// Whether the proxy that was dialled is at fault, rather than what is behind it.
    pub(crate) fn is_of_the_next_hop(&self) -> bool {
        match self {
            Self::PeerStatus { .. } | Self::Behind { .. } => false,
            Self::Shared(failure) => failure.is_of_the_next_hop(),
            _ => true,
        }
    }

    /// Whether a gateway was reached and what is behind it was not, and may be tried again by another way.
    pub(crate) fn is_behind_gateway(&self) -> bool {
        match self {
            Self::Behind { failure, .. } => failure.may_try_elsewhere(),
            Self::Shared(failure) => failure.is_behind_gateway(),
            _ => false,
        }
    }
}

/// Whether it looks as if a firewall dropped what goes to the port for tunnels: a proxy that is not there refuses.
fn looks_blocked(to: &SocketAddr, error: &io::Error) -> bool {
    to.port() == INBOUND_PORT && error.kind() == io::ErrorKind::TimedOut
}

fn hint(to: &SocketAddr, error: &io::Error) -> &'static str {
    if looks_blocked(to, error) {
        "; see whether a NetworkPolicy or firewall blocks that port"
    } else {
        ""
    }
}

fn status_sentence(peer: &SocketAddr, status: &u16) -> String {
    match status {
        401 => format!(
            "policy at {peer} does not allow this connection (status 401); the log of the proxy there names the policy"
        ),
        503 => format!("{peer} could not reach the application (status 503)"),
        400 => format!("{peer} does not serve this destination (status 400)"),
        other => format!("{peer} answered with status {other}"),
    }
}

#[cfg(test)]
mod tests;
