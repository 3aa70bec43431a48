//! Why a handshake did not succeed, and who is to blame.

use std::time::{Duration, SystemTime};
use std::{fmt, io};

use mesh::Identity;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

/// Why there is no authenticated stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer's certificate does not lead to any of our roots.
    #[error("the peer's certificate was signed by an authority we do not trust")]
    UntrustedIssuer,
    /// The peer's certificate, or one above it, has ended.
    #[error("the peer's certificate expired at {} (it is {} here)", seconds(.not_after), seconds(.now))]
    CertificateExpired {
        /// The end of its life.
        not_after: SystemTime,
        /// Our clock.
        now: SystemTime,
    },
    /// The peer's certificate, or one above it, has not begun.
    #[error("the peer's certificate is not valid before {} (it is {} here); compare the clocks", seconds(.not_before), seconds(.now))]
    CertificateNotYetValid {
        /// The start of its life.
        not_before: SystemTime,
        /// Our clock.
        now: SystemTime,
    },
    /// The peer's certificate does not say that it may be used by a client, or by a server.
    #[error("the peer's certificate may not be used for this purpose (extended key usage)")]
    WrongPurpose,
    /// The peer's certificate is malformed or uses something unknown.
    #[error("the peer's certificate is not acceptable: {0}")]
    BadCertificate(String),
    /// The peer's certificate, or one above it, is on a revocation list.
    #[error("the peer's certificate, or one above it, was revoked")]
    CertificateRevoked,
    /// A revocation list is required, and none says that the peer's certificate is good.
    #[error("whether the peer's certificate was revoked is unknown, and a revocation list is required: {0}")]
    RevocationUnknown(String),
    /// The peer could not prove that it holds its certificate's key.
    #[error("the peer does not hold the key of the certificate it showed")]
    BadSignature,
    /// The peer's certificate carries no URI name.
    #[error("the peer's certificate names no SPIFFE identity")]
    NoIdentity,
    /// The peer's certificate carries more than one URI name, so it is unclear who it is.
    #[error("the peer's certificate carries {0} URI names; exactly one is accepted")]
    SeveralIdentities(usize),
    /// The URI name of the peer's certificate is not of the form `spiffe://TD/ns/NS/sa/SA`.
    #[error("the peer's certificate names '{0}', which is not of the form spiffe://TD/ns/NS/sa/SA")]
    MalformedIdentity(String),
    /// The peer belongs to another trust domain.
    #[error("the peer is {got}, of another trust domain than ours, {expected}")]
    WrongTrustDomain {
        /// Our trust domain.
        expected: String,
        /// Who the peer is.
        got: Identity,
    },
    /// The server is somebody else than the caller wanted to reach.
    #[error("the peer is {got}, expected {}", list(.expected))]
    WrongIdentity {
        /// Who would have been accepted.
        expected: Vec<Identity>,
        /// Who the peer is.
        got: Identity,
    },
    /// The server's certificate is not for the host name that was dialled.
    #[error("the server's certificate is not for {expected}, but for {}", presented.join(", "))]
    WrongName {
        /// The name that was dialled.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The client showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// What the peer sent is not TLS.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The peer closed the connection before the handshake was done.
    #[error("the peer closed the connection during the handshake")]
    PeerClosed,
    /// The peer does not offer the protocol spoken inside (`h2`).
    #[error("the peer does not offer h2 (ALPN)")]
    Alpn,
    /// The peer refused us, and said why as far as TLS has words for it.
    #[error("the peer refused us: {0}")]
    PeerAlert(Alert),
    /// There is no common version, suite or key exchange.
    #[error("the peer's TLS has nothing in common with ours: {0}")]
    Incompatible(String),
    /// The peer broke the protocol.
    #[error("the peer broke the TLS protocol: {0}")]
    Protocol(String),
    /// The handshake took too long.
    #[error("the handshake was not done within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Our own certificate has ended; nothing is sent with it.
    #[error("our own certificate for {identity} is not valid now; its renewal failed")]
    OwnCertificateInvalid {
        /// Whose certificate it is.
        identity: Identity,
    },
    /// The name to be verified is neither a DNS name nor an address.
    #[error("'{0}' is neither a DNS name nor an IP address")]
    BadName(String),
    /// The connection below failed.
    #[error("the connection failed during the handshake: {message}")]
    Io {
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// The TLS library failed in a way that blames nobody else.
    #[error("TLS failed: {0}")]
    Internal(String),
}

/// Whose doing an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The other end.
    Peer,
    /// Our own certificate, roots or configuration.
    Configuration,
    /// The network or the operating system.
    System,
}

/// A refusal received from the peer: an alert of RFC 8446 §6.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(AlertDescription);

impl HandshakeError {
    /// A stable word for metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UntrustedIssuer => "untrusted_issuer",
            Self::CertificateExpired { .. } => "certificate_expired",
            Self::CertificateNotYetValid { .. } => "certificate_not_yet_valid",
            Self::WrongPurpose => "wrong_purpose",
            Self::BadCertificate(_) => "bad_certificate",
            Self::CertificateRevoked => "cert_revoked",
            Self::RevocationUnknown(_) => "revocation_unknown",
            Self::BadSignature => "bad_signature",
            Self::NoIdentity => "no_identity",
            Self::SeveralIdentities(_) => "several_identities",
            Self::MalformedIdentity(_) => "malformed_identity",
            Self::WrongTrustDomain { .. } => "wrong_trust_domain",
            Self::WrongIdentity { .. } => "wrong_identity",
            Self::WrongName { .. } => "wrong_name",
            Self::NoCertificate => "no_certificate",
            Self::NotTls => "not_tls",
            Self::PeerClosed => "peer_closed",
            Self::Alpn => "alpn",
            Self::PeerAlert(alert) => alert.code(),
            Self::Incompatible(_) => "incompatible",
            Self::Protocol(_) => "protocol",
            Self::Timeout(_) => "timeout",
            Self::OwnCertificateInvalid { .. } => "own_certificate_invalid",
            Self::BadName(_) => "bad_name",
            Self::Io { .. } => "io",
            Self::Internal(_) => "internal",
        }
    }

    /// Whose doing it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::OwnCertificateInvalid { .. } | Self::RevocationUnknown(_) | Self::BadName(_) => {
                Blame::Configuration
            }
            Self::Io { .. } | Self::Timeout(_) | Self::Internal(_) => Blame::System,
            _ => Blame::Peer,
        }
    }

    /// The TLS reason inside an error of a [`crate::Stream`], if it has one.
    ///
    /// In TLS 1.3 a client's handshake is over before the server has judged the client's certificate, so the
    /// server's refusal comes out of the first read, as an [`io::Error`] that carries this.
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(crate) fn io(error: &io::Error) -> Self {
        match Self::from_io(error) {
            Some(inner) => inner.clone(),
            None => Self::Io {
                kind: error.kind(),
                message: error.to_string(),
            },
        }
    }

    /// As an error of a stream.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::PeerAlert(_) => io::ErrorKind::ConnectionAborted,
            Self::PeerClosed => io::ErrorKind::UnexpectedEof,
            Self::Io { kind, .. } => *kind,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }

    /// The reason in the words of the TLS library, translated; `started` says whether any message of the
    /// peer has been understood.
    pub(crate) fn from_tls(error: rustls::Error, started: bool) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::from_certificate(error),
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            | rustls::Error::NoApplicationProtocol => Self::Alpn,
            rustls::Error::AlertReceived(alert) => Self::PeerAlert(Alert(alert)),
            rustls::Error::InvalidMessage(_) if !started => Self::NotTls,
            rustls::Error::PeerIncompatible(reason) => Self::Incompatible(format!("{reason:?}")),
            rustls::Error::PeerMisbehaved(reason) => Self::Protocol(format!("{reason:?}")),
            error @ (rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::DecryptError
            | rustls::Error::PeerSentOversizedRecord) => Self::Protocol(error.to_string()),
            other => Self::Internal(other.to_string()),
        }
    }

    fn from_certificate(error: CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UntrustedIssuer,
            CertificateError::ExpiredContext { time, not_after } => Self::CertificateExpired {
                not_after: system(not_after),
                now: system(time),
            },
            CertificateError::NotValidYetContext { time, not_before } => Self::CertificateNotYetValid {
                not_before: system(not_before),
                now: system(time),
            },
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongPurpose
            }
            CertificateError::NotValidForNameContext { expected, presented } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented,
            },
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::Revoked => Self::CertificateRevoked,
            CertificateError::Other(other) => match other.0.downcast_ref::<Self>() {
                Some(own) => own.clone(),
                None => Self::BadCertificate(other.to_string()),
            },
            other => Self::BadCertificate(rustls::Error::from(other).to_string()),
        }
    }
}

impl Alert {
    /// The alert's name in RFC 8446.
    pub fn name(self) -> &'static str {
        self.code().strip_prefix("peer_alert_").unwrap_or("other")
    }

    fn code(self) -> &'static str {
        match self.0 {
            AlertDescription::UnexpectedMessage => "peer_alert_unexpected_message",
            AlertDescription::BadRecordMac => "peer_alert_bad_record_mac",
            AlertDescription::HandshakeFailure => "peer_alert_handshake_failure",
            AlertDescription::BadCertificate => "peer_alert_bad_certificate",
            AlertDescription::UnsupportedCertificate => "peer_alert_unsupported_certificate",
            AlertDescription::CertificateRevoked => "peer_alert_certificate_revoked",
            AlertDescription::CertificateExpired => "peer_alert_certificate_expired",
            AlertDescription::CertificateUnknown => "peer_alert_certificate_unknown",
            AlertDescription::IllegalParameter => "peer_alert_illegal_parameter",
            AlertDescription::UnknownCA => "peer_alert_unknown_ca",
            AlertDescription::AccessDenied => "peer_alert_access_denied",
            AlertDescription::DecodeError => "peer_alert_decode_error",
            AlertDescription::DecryptError => "peer_alert_decrypt_error",
            AlertDescription::ProtocolVersion => "peer_alert_protocol_version",
            AlertDescription::InternalError => "peer_alert_internal_error",
            AlertDescription::UserCanceled => "peer_alert_user_canceled",
            AlertDescription::MissingExtension => "peer_alert_missing_extension",
            AlertDescription::CertificateRequired => "peer_alert_certificate_required",
            AlertDescription::NoApplicationProtocol => "peer_alert_no_application_protocol",
            _ => "peer_alert_other",
        }
    }

    fn meaning(self) -> &'static str {
        match self.0 {
            AlertDescription::UnknownCA => ": it does not trust the authority of our certificate",
            AlertDescription::CertificateExpired => ": our certificate has expired by its clock",
            AlertDescription::CertificateRequired => ": it wants a certificate of us",
            AlertDescription::CertificateUnknown => ": it does not accept the identity in our certificate",
            AlertDescription::CertificateRevoked => ": our certificate was revoked",
            AlertDescription::BadCertificate | AlertDescription::UnsupportedCertificate => {
                ": it does not accept our certificate"
            }
            _ => "",
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            AlertDescription::Unknown(number) => write!(f, "alert {number}"),
            _ => write!(f, "{}{}", self.name(), self.meaning()),
        }
    }
}

fn system(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

/// A time as people read it in logs: RFC 3339, in UTC.
fn seconds(time: &SystemTime) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    OffsetDateTime::from(*time)
        .format(&Rfc3339)
        .unwrap_or_else(|_| format!("{time:?}"))
}

fn list(identities: &[Identity]) -> String {
    const MOST: usize = 4;
    if identities.is_empty() {
        return "nobody (the set of accepted identities is empty)".to_owned();
    }
    let mut text = identities
        .iter()
        .take(MOST)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" or ");
    if identities.len() > MOST {
        text.push_str(&format!(" or one of {} others", identities.len() - MOST));
    }
    text
}
