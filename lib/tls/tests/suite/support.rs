//! Certificates, forged certificates, and a peer made of rustls' buffered API.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ca::Authority;
use mesh::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tls::{ConfigCache, HandshakeError, KeyAndRequest, Peer, PrivateKey, Stream, WorkloadCertificate};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::UnixStream;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn id(account: &str) -> Identity {
    Identity::new("cluster.local", "demo", account)
}

pub(crate) fn authority() -> Authority {
    let directory = tempfile::tempdir().unwrap();
    Authority::load_or_create(directory.path(), SystemTime::now()).unwrap()
}

/// A certificate for `identity`, whose holder trusts the roots in `trusted` (PEM) too.
pub(crate) fn certificate_trusting(
    authority: &Authority,
    identity: &Identity,
    trusted: &str,
) -> WorkloadCertificate {
    let KeyAndRequest { key, request_pem } = KeyAndRequest::generate(identity).unwrap();
    let mut chain = authority
        .sign(&request_pem, identity, HOUR, SystemTime::now())
        .unwrap()
        .chain;
    chain.last_mut().unwrap().push_str(trusted);
    WorkloadCertificate::from_pem(&chain, &key, identity).unwrap()
}

pub(crate) fn certificate(authority: &Authority, identity: &Identity) -> WorkloadCertificate {
    certificate_trusting(authority, identity, "")
}

type Side<IO> = Result<(Stream<IO>, Peer), HandshakeError>;

/// A handshake over `a` and `b`: what the client sees, what the server sees.
pub(crate) async fn shake<IO: AsyncRead + AsyncWrite + Unpin>(
    (a, b): (IO, IO),
    client: &WorkloadCertificate,
    accepted: &[Identity],
    server: &WorkloadCertificate,
) -> (Side<IO>, Side<IO>) {
    let cache = ConfigCache::new();
    let (client, server) = (cache.client(client, accepted), cache.server(server));
    tokio::join!(tls::connect(a, &client), tls::accept(b, &server))
}

/// Two streams that trust each other.
pub(crate) async fn pair_over<IO: AsyncRead + AsyncWrite + Unpin>(
    ends: (IO, IO),
) -> (Stream<IO>, Stream<IO>) {
    let authority = authority();
    let (a, b) = (
        certificate(&authority, &id("a")),
        certificate(&authority, &id("b")),
    );
    let (client, server) = shake(ends, &a, &[id("b")], &b).await;
    (client.unwrap().0, server.unwrap().0)
}

pub(crate) async fn pair(capacity: usize) -> (Stream<DuplexStream>, Stream<DuplexStream>) {
    pair_over(tokio::io::duplex(capacity)).await
}

/// A certificate that no honest authority signs.
pub(crate) struct Forged {
    pub(crate) names: Vec<SanType>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Forged {
    pub(crate) fn uris(names: &[&str]) -> Self {
        let now = SystemTime::now();
        Self {
            names: names
                .iter()
                .map(|name| SanType::URI((*name).try_into().unwrap()))
                .collect(),
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            not_before: now - HOUR,
            not_after: now + HOUR,
        }
    }
}

/// An authority that signs anything.
pub(crate) struct Forger {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root_pem: String,
}

impl Forger {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "forger");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap();
        Self {
            root_pem: root.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn sign(&self, forged: &Forged) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = forged.names.clone();
        params.extended_key_usages = forged.usages.clone();
        params.not_before = forged.not_before.into();
        params.not_after = forged.not_after.into();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            certificate.der().clone(),
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    /// A proper certificate of this authority.
    pub(crate) fn honest(&self, identity: &Identity) -> WorkloadCertificate {
        let (leaf, key) = self.sign(&Forged::uris(&[&identity.to_string()]));
        let key = PrivateKey::from_pkcs8(key.secret_der().to_vec());
        let pem = pem::encode(&pem::Pem::new("CERTIFICATE", leaf.as_ref()));
        WorkloadCertificate::from_pem(&[pem, self.root_pem.clone()], &key, identity).unwrap()
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A buffered rustls client that accepts any server and shows `shown`.
pub(crate) fn raw_client(
    shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> rustls::ClientConfig {
    raw_client_speaking(rustls::DEFAULT_VERSIONS, shown)
}

/// The same, with these versions of TLS.
pub(crate) fn raw_client_speaking(
    versions: &[&'static rustls::SupportedProtocolVersion],
    shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> rustls::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnything));
    let mut config = match shown {
        Some((leaf, key)) => builder.with_client_auth_cert(vec![leaf], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A buffered rustls server that accepts any client and sends tickets.
pub(crate) fn raw_server(shown: (CertificateDer<'static>, PrivateKeyDer<'static>)) -> rustls::ServerConfig {
    raw_server_speaking(rustls::DEFAULT_VERSIONS, shown)
}

/// The same, with these versions of TLS.
pub(crate) fn raw_server_speaking(
    versions: &[&'static rustls::SupportedProtocolVersion],
    shown: (CertificateDer<'static>, PrivateKeyDer<'static>),
) -> rustls::ServerConfig {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![shown.0], shown.1)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Two ends of a socket: one for tokio, one for a thread.
pub(crate) fn sockets() -> (UnixStream, StdUnixStream) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    // Whatever goes wrong, no test waits for ever.
    theirs.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    theirs.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    (UnixStream::from_std(ours).unwrap(), theirs)
}

pub(crate) type RawClient = rustls::StreamOwned<rustls::ClientConnection, StdUnixStream>;
pub(crate) type RawServer = rustls::StreamOwned<rustls::ServerConnection, StdUnixStream>;

pub(crate) fn raw_client_on(io: StdUnixStream, config: rustls::ClientConfig) -> RawClient {
    let name = ServerName::try_from("unused.example").unwrap();
    rustls::StreamOwned::new(rustls::ClientConnection::new(Arc::new(config), name).unwrap(), io)
}

pub(crate) fn raw_server_on(io: StdUnixStream, config: rustls::ServerConfig) -> RawServer {
    rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::new(config)).unwrap(), io)
}

/// The TLS error inside an I/O error of a buffered connection.
pub(crate) fn raw_error(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>().cloned()
}

/// Bytes that depend on their position, so that loss, repetition and exchange are all seen.
pub(crate) fn pattern(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

#[derive(Debug)]
struct AcceptAnything;

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
