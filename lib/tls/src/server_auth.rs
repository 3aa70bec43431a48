//! One-way TLS with a name, towards and by the control plane: TLS 1.3, ALPN `h2`, no client certificate.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;
use std::{fmt, fs, io};

use arc_swap::ArcSwap;
use rustls::client::{Resumption, UnbufferedClientConnection, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::certificate::Details;
use crate::config::ALPN;
use crate::pem::{self, MAX_PEM_BYTES, PemError};
use crate::provider::{Versions, provider};
use crate::stream::Connection;
use crate::{CertificateError, CompliancePolicy, HandshakeError, PrivateKey, Stream, handshake};

/// Where the roots come from that a server's certificate is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootSource {
    /// A PEM file, read anew for every [`Client::load`].
    Path(PathBuf),
    /// The roots of the operating system.
    System,
    /// The PEM text itself.
    Pem(String),
}

/// A client of named servers. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    config: Arc<rustls::ClientConfig>,
}

/// A server's certificate chain with its key. It has no `Debug`.
#[derive(Clone)]
pub struct ServerIdentity {
    config: Arc<rustls::ServerConfig>,
    not_after: SystemTime,
    http1: bool,
}

/// Accepts clients with a certificate that can be replaced while running.
pub struct Acceptor {
    current: ArcSwap<ServerIdentity>,
}

/// Why roots could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The file could not be read.
    #[error(
        "the root certificates in {} cannot be read: {message}; \
         mount the file or point the root setting at one that exists", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
    /// The text holds no usable certificates.
    #[error("the root certificates in {origin} cannot be used: {reason}")]
    Malformed {
        /// The file, or what else the text came from.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// The system has no roots.
    #[error("the system has no usable root certificates: {0}; install ca-certificates or name a root file")]
    NoSystemRoots(String),
}

impl FromStr for RootSource {
    type Err = std::convert::Infallible;

    /// Reads the form of `XDS_ROOT_CA` and `CA_ROOT_CA`: `SYSTEM`, an inline PEM text, or a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "SYSTEM" => Self::System,
            _ if text.contains("-----BEGIN") => Self::Pem(text.to_owned()),
            _ => Self::Path(PathBuf::from(text)),
        })
    }
}

impl fmt::Display for RootSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::System => f.write_str("the system's roots"),
            Self::Pem(_) => f.write_str("the inline PEM text"),
        }
    }
}

impl Client {
    /// Reads the roots now. Files are small, so this blocks; call it again to see a changed file.
    ///
    /// # Errors
    /// When there are no usable roots; the message names the file and what to do.
    pub fn load(source: &RootSource) -> Result<Self, RootError> {
        Self::load_with(source, CompliancePolicy::None)
    }

    /// As [`Client::load`], speaking only what `policy` allows.
    ///
    /// # Errors
    /// As for [`Client::load`].
    pub fn load_with(source: &RootSource, policy: CompliancePolicy) -> Result<Self, RootError> {
        let mut store = rustls::RootCertStore::empty();
        let origin = source.to_string();
        match source {
            RootSource::Path(path) => {
                let text = read_bounded(path).map_err(|error| RootError::Read {
                    path: path.clone(),
                    message: error.to_string(),
                })?;
                add(&mut store, &text, &origin)?;
            }
            RootSource::Pem(text) => add(&mut store, text, &origin)?,
            RootSource::System => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _ignored) = store.add_parsable_certificates(found.certs);
                if added == 0 {
                    let reasons: Vec<_> = found.errors.iter().take(3).map(ToString::to_string).collect();
                    return Err(RootError::NoSystemRoots(reasons.join("; ")));
                }
            }
        }
        let unusable = |reason: String| RootError::Malformed {
            origin: origin.clone(),
            reason,
        };
        let provider = provider(policy, Versions::Tls13);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| unusable(error.to_string()))?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Connects over `io` to a server whose certificate must be for `name`, a DNS name or an IP address.
    ///
    /// # Errors
    /// When the handshake fails; see [`HandshakeError`].
    pub async fn connect<IO>(&self, io: IO, name: &str) -> Result<Stream<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let server =
            ServerName::try_from(name.to_owned()).map_err(|_| HandshakeError::BadName(name.to_owned()))?;
        let tls = UnbufferedClientConnection::new(self.config.clone(), server)
            .map_err(|error| HandshakeError::from_tls(error, false))?;
        handshake::run(io, Connection::Client(tls)).await
    }
}

impl ServerIdentity {
    /// Takes a chain (leaf first) and its key.
    ///
    /// # Errors
    /// When the chain is no PEM, or the key is not the leaf's.
    pub fn from_pem(chain_pem: &str, key: &PrivateKey) -> Result<Self, CertificateError> {
        let chain = pem::certificates(chain_pem)?;
        let details = chain
            .first()
            .map(Details::of)
            .ok_or(CertificateError::Incomplete)??;
        let certified = key.certify(chain)?;
        let mut config =
            rustls::ServerConfig::builder_with_provider(provider(CompliancePolicy::None, Versions::Tls13))
                .with_protocol_versions(&[&TLS13])
                .map_err(|error| CertificateError::Key(error.to_string()))?
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            not_after: details.not_after,
            http1: false,
        })
    }

    /// Also serves clients that speak HTTP/1.1, or do not say what they speak: whoever serves must find out.
    #[must_use]
    pub fn with_http1(mut self) -> Self {
        let mut config = rustls::ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
        self.config = Arc::new(config);
        self.http1 = true;
        self
    }

    /// The end of the certificate's life.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

impl Acceptor {
    /// Accepts with `identity` until it is replaced.
    pub fn new(identity: ServerIdentity) -> Self {
        Self {
            current: ArcSwap::from_pointee(identity),
        }
    }

    /// Uses `identity` for connections accepted from now on.
    pub fn replace(&self, identity: ServerIdentity) {
        self.current.store(Arc::new(identity));
    }

    /// The end of the current certificate's life.
    pub fn not_after(&self) -> SystemTime {
        self.current.load().not_after
    }

    /// Accepts a client over `io`.
    ///
    /// # Errors
    /// When the handshake fails; see [`HandshakeError`].
    pub async fn accept<IO>(&self, io: IO) -> Result<Stream<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let identity = self.current.load().clone();
        let tls = UnbufferedServerConnection::new(identity.config.clone())
            .map_err(|error| HandshakeError::from_tls(error, false))?;
        // With a list of two, TLS itself has refused every other protocol.
        let accepted: fn(Option<&[u8]>) -> bool = if identity.http1 {
            |_| true
        } else {
            |protocol| protocol == Some(ALPN)
        };
        handshake::run_speaking(io, Connection::Server(tls), accepted).await
    }
}

fn add(store: &mut rustls::RootCertStore, text: &str, origin: &str) -> Result<(), RootError> {
    let malformed = |reason: String| RootError::Malformed {
        origin: origin.to_owned(),
        reason,
    };
    let certificates: Vec<CertificateDer<'static>> =
        pem::certificates(text).map_err(|error| malformed(error.to_string()))?;
    for certificate in certificates {
        store
            .add(certificate)
            .map_err(|error| malformed(error.to_string()))?;
    }
    Ok(())
}

fn read_bounded(path: &std::path::Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let mut file = fs::File::open(path)?.take(MAX_PEM_BYTES as u64 + 1);
    file.read_to_string(&mut text)?;
    if text.len() > MAX_PEM_BYTES {
        return Err(io::Error::other(PemError::TooLong(text.len())));
    }
    Ok(text)
}
