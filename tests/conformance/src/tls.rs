use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, Connection, DigitallySignedStruct, DistinguishedName, ProtocolVersion, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::authority::Credentials;
use crate::failure::{Doing, Outcome};

/// TLS over a socket, or over a tunnel. Whatever certificate the other side shows is accepted: the check looks at it itself.
#[derive(Debug)]
pub struct TlsStream<S = TcpStream> {
    socket: S,
    tls: Connection,
    hello: Hello,
}

/// What a client said at first, as far as a check asks.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The host it names, if any.
    pub server_name: Option<String>,
    /// Numbers of the cipher suites it offers.
    pub suites: Vec<u16>,
    /// The protocols it offers.
    pub protocols: Vec<String>,
}

/// What was agreed on, and what the other side has shown.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Only where the other side is the client.
    pub hello: Hello,
    /// Whether TLS 1.3 is spoken.
    pub is_tls13: bool,
    /// Number of the cipher suite.
    pub suite: u16,
    /// The protocol agreed on.
    pub protocol: Option<String>,
    /// Certificates the other side has shown, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
}

/// How an end of TLS shows itself.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The certificate shown; a client may have none.
    pub shown: Option<Credentials>,
    /// Protocols offered or accepted.
    pub protocols: Vec<&'static str>,
    /// Whether a server demands a certificate.
    pub demand_client: bool,
    /// The host that a client names.
    pub server_name: Option<&'static str>,
    /// Offer or accept only this suite.
    pub only_suite: Option<rustls::CipherSuite>,
}

impl TlsSettings {
    /// As peers of a tunnel do it: mutual, `h2`, no host named.
    pub fn tunnel(shown: Option<Credentials>) -> TlsSettings {
        TlsSettings {
            shown,
            protocols: vec!["h2"],
            demand_client: true,
            server_name: None,
            only_suite: None,
        }
    }

    /// As a gRPC server does it: only the server shows a certificate.
    pub fn grpc(shown: Credentials) -> TlsSettings {
        TlsSettings {
            demand_client: false,
            ..TlsSettings::tunnel(Some(shown))
        }
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(only) = self.only_suite {
            provider.cipher_suites.retain(|suite| suite.suite() == only);
        }
        Arc::new(provider)
    }

    fn protocols(&self) -> Vec<Vec<u8>> {
        self.protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Handshakes as a client.
    pub async fn connect(socket: S, settings: &TlsSettings) -> Outcome<TlsStream<S>> {
        let builder = ClientConfig::builder_with_provider(settings.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone));
        let mut config = match &settings.shown {
            Some(shown) => builder.with_client_auth_cert(vec![shown.leaf.clone()], shown.key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = settings.protocols();
        config.enable_sni = settings.server_name.is_some();
        let name = ServerName::try_from(settings.server_name.unwrap_or("unnamed.invalid"))?;
        let tls = rustls::ClientConnection::new(Arc::new(config), name)?;
        let mut stream = TlsStream {
            socket,
            tls: tls.into(),
            hello: Hello::default(),
        };
        stream.handshake().await.doing("the TLS handshake as a client")?;
        Ok(stream)
    }

    /// Handshakes as a server.
    pub async fn accept(socket: S, settings: &TlsSettings) -> Outcome<TlsStream<S>> {
        let provider = settings.provider();
        let shown = settings.shown.as_ref().doing("a server shows a certificate")?;
        let key = provider.key_provider.load_private_key(shown.key())?;
        let resolver = Arc::new(Resolver {
            certificate: Arc::new(CertifiedKey::new(vec![shown.leaf.clone()], key)),
            hello: Mutex::default(),
        });
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = if settings.demand_client {
            builder.with_client_cert_verifier(Arc::new(Anyone))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(resolver.clone());
        config.alpn_protocols = settings.protocols();
        let tls = rustls::ServerConnection::new(Arc::new(config))?;
        let mut stream = TlsStream {
            socket,
            tls: tls.into(),
            hello: Hello::default(),
        };
        stream.handshake().await.doing("the TLS handshake as a server")?;
        stream.hello = resolver
            .hello
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(stream)
    }

    /// What was agreed on.
    pub fn facts(&self) -> Facts {
        Facts {
            hello: self.hello.clone(),
            is_tls13: self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            suite: self
                .tls
                .negotiated_cipher_suite()
                .map_or(0, |suite| suite.suite().into()),
            protocol: self
                .tls
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            chain: self
                .tls
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect(),
        }
    }

    async fn handshake(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            loop {
                ready!(self.flush(cx))?;
                if !self.tls.is_handshaking() {
                    return Poll::Ready(Ok(()));
                }
                if ready!(self.fill(cx))? == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        })
        .await
    }

    /// Sends what TLS has to send.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut socket = Blocking(&mut self.socket, cx);
            match self.tls.write_tls(&mut socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                written => written?,
            };
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what has come; 0 at the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut socket = Blocking(&mut self.socket, cx);
        let length = match self.tls.read_tls(&mut socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            read => read?,
        };
        if let Err(error) = self.tls.process_new_packets() {
            // The alert goes out as far as somebody still listens.
            let _ = self.flush(cx);
            return Poll::Ready(Err(io::Error::other(error)));
        }
        Poll::Ready(Ok(length))
    }
}

impl Facts {
    /// The URI names of the other side's leaf.
    pub fn peer_uris(&self) -> Outcome<Vec<String>> {
        let leaf = self.chain.first().doing("the peer has shown no certificate")?;
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf)?;
        let mut uris = Vec::new();
        for extension in leaf.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                uris.extend(names.general_names.iter().filter_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                }));
            }
        }
        Ok(uris)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.tls.reader().read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    buffer.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(this.fill(cx))?;
            // What does not go out now goes with the next write.
            let _ = this.flush(cx)?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.flush(cx))?;
        let length = self.tls.writer().write(bytes)?;
        let _ = self.flush(cx)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tls.send_close_notify();
        ready!(self.flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The socket as blocking code sees it: `WouldBlock` where a task would wait.
struct Blocking<'a, 'b, S>(&'a mut S, &'a mut Context<'b>);

impl<S: AsyncRead + Unpin> Read for Blocking<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.0).poll_read(self.1, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Blocking<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.0).poll_write(self.1, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows one certificate and keeps what the client said first.
#[derive(Debug)]
struct Resolver {
    certificate: Arc<CertifiedKey>,
    hello: Mutex<Hello>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let seen = Hello {
            server_name: hello.server_name().map(str::to_owned),
            suites: hello
                .cipher_suites()
                .iter()
                .map(|suite| (*suite).into())
                .collect(),
            protocols: hello
                .alpn()
                .into_iter()
                .flatten()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect(),
        };
        *self.hello.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        Some(self.certificate.clone())
    }
}

/// Accepts every certificate whose key the other side holds.
#[derive(Debug)]
struct Anyone;

fn schemes() -> Vec<SignatureScheme> {
    aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .supported_schemes()
}

fn signed(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signature, &algorithms)
}

fn signed_before_13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
}

impl ServerCertVerifier for Anyone {
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
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_before_13(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed_before_13(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
