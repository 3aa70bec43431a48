use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, Connection, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::lab::{Lab, ROOT};

const HOUR: Duration = Duration::from_secs(3600);

/// Signs whatever a test asks for.
pub struct Signer(Issuer<'static, KeyPair>);

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Claims {
    /// Its URI names.
    pub uris: Vec<String>,
    /// What it may be used for.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
}

/// A certificate that a peer shows, with its key.
#[derive(Debug)]
pub struct Credentials {
    leaf: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Claims {
    /// A good certificate of `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`.
    pub fn of(namespace: &str, account: &str) -> Claims {
        Claims::uris(&[&format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")])
    }

    /// Good but for these names, perhaps.
    pub fn uris(uris: &[&str]) -> Claims {
        let now = SystemTime::now();
        Claims {
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            not_before: now - HOUR,
            not_after: now + HOUR,
        }
    }

    /// Its life is over.
    pub fn expired(mut self) -> Claims {
        self.not_after = SystemTime::now() - HOUR / 2;
        self
    }

    /// Its life has not begun.
    pub fn early(mut self) -> Claims {
        self.not_before = SystemTime::now() + HOUR / 2;
        self
    }

    /// For this purpose only.
    pub fn only_for(mut self, usage: ExtendedKeyUsagePurpose) -> Claims {
        self.usages = vec![usage];
        self
    }
}

impl Credentials {
    /// What a node proxy keeps on disk of an identity: its key and its certificate first.
    pub fn kept_in(path: &std::path::Path) -> Credentials {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Credentials {
            leaf: CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate"),
            key: PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).expect("a key"),
        }
    }
}

impl Signer {
    /// The lab's own authority: what it signs is trusted there.
    pub fn of_lab(lab: &Lab) -> Signer {
        let read = |file: &str| {
            let path = format!("{ROOT}/{}/ca/{file}", lab.name());
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        // The secret file holds the certificate as well.
        let (secret, certificate) = (read("root-key.pem"), read("root-cert.pem"));
        let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
        let from = secret.find(begin).expect("a private key");
        let to = secret.find(end).expect("a whole private key") + end.len();
        let key = KeyPair::from_pem(&secret[from..to]).expect("the lab's key");
        Signer(Issuer::from_ca_cert_pem(&certificate, key).expect("the lab's root certificate"))
    }

    /// An authority that nobody knows.
    pub fn stranger() -> Signer {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "stranger");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Signer(Issuer::new(params, key))
    }

    /// A revocation list, in PEM, that names these serial numbers (hexadecimal) and is current.
    pub fn revocation_list(&self, serials: &[&str]) -> String {
        let then = rcgen::date_time_ymd(2020, 1, 1);
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(bytes(serial)),
            revocation_time: then,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: then,
            next_update: rcgen::date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.0).expect("a revocation list");
        list.pem().expect("a text")
    }

    /// Signs.
    pub fn sign(&self, claims: &Claims) -> Credentials {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = claims
            .uris
            .iter()
            .map(|uri| SanType::URI(uri.as_str().try_into().expect("ASCII")))
            .collect();
        params.extended_key_usages = claims.usages.clone();
        params.not_before = claims.not_before.into();
        params.not_after = claims.not_after.into();
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Credentials {
            leaf: certificate.der().clone(),
            key: key.serialize_der().into(),
        }
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = (0..hexadecimal.len())
        .step_by(2)
        .map(|at| &hexadecimal[at..at + 2]);
    digits
        .map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits"))
        .collect()
}

/// TLS 1.3 over a socket. Whatever the other side shows is accepted: the test looks at it itself.
#[derive(Debug)]
pub(crate) struct TlsPeer {
    socket: TcpStream,
    tls: Connection,
}

impl TlsPeer {
    /// Handshakes as a client that offers h2, with or without a certificate.
    pub(crate) async fn connect(socket: TcpStream, shown: Option<&Credentials>) -> io::Result<TlsPeer> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer));
        let mut config = match shown {
            Some(Credentials { leaf, key }) => builder
                .with_client_auth_cert(vec![leaf.clone()], PrivateKeyDer::Pkcs8(key.clone_key()))
                .expect("a certificate with its key"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_sni = false;
        let name = ServerName::try_from("unused.example").expect("a name");
        let tls = rustls::ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        TlsPeer {
            socket,
            tls: tls.into(),
        }
        .handshake()
        .await
    }

    /// Handshakes as a server that asks for no certificate.
    pub(crate) async fn accept(
        socket: TcpStream,
        shown: &Credentials,
        protocols: &[&str],
    ) -> io::Result<TlsPeer> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(
                vec![shown.leaf.clone()],
                PrivateKeyDer::Pkcs8(shown.key.clone_key()),
            )
            .expect("a certificate with its key");
        config.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        let tls = rustls::ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
        TlsPeer {
            socket,
            tls: tls.into(),
        }
        .handshake()
        .await
    }

    /// Whether the certificate that the other side has shown carries this name.
    pub(crate) fn peer_is(&self, uri: &str) -> bool {
        let leaf = self.tls.peer_certificates().and_then(|chain| chain.first());
        leaf.is_some_and(|leaf| leaf.windows(uri.len()).any(|window| window == uri.as_bytes()))
    }

    async fn handshake(mut self) -> io::Result<TlsPeer> {
        std::future::poll_fn(|cx| {
            loop {
                ready!(self.flush(cx))?;
                if !self.tls.is_handshaking() {
                    return Poll::Ready(io::Result::Ok(()));
                }
                if ready!(self.take(cx))? == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        })
        .await?;
        Ok(self)
    }

    /// Sends all that TLS has to send.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut raw = Raw {
                socket: &mut self.socket,
                cx,
            };
            match self.tls.write_tls(&mut raw) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                outcome => outcome?,
            };
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what has come; 0 at the end.
    fn take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut raw = Raw {
            socket: &mut self.socket,
            cx,
        };
        let length = match self.tls.read_tls(&mut raw) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            outcome => outcome?,
        };
        if let Err(error) = self.tls.process_new_packets() {
            // Its reason goes to the other side too, as far as it is still there.
            let _ = self.flush(cx);
            return Poll::Ready(Err(io::Error::other(error)));
        }
        Poll::Ready(Ok(length))
    }
}

impl AsyncRead for TlsPeer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.tls.reader().read(buf.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    buf.advance(outcome?);
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(self.take(cx))?;
            let _ = self.flush(cx)?;
        }
    }
}

impl AsyncWrite for TlsPeer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.flush(cx))?;
        let length = self.tls.writer().write(buf)?;
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
struct Raw<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Read for Raw<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer) {
            Poll::Ready(outcome) => outcome.map(|()| buffer.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Raw<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write(self.cx, bytes) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
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
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("no TLS 1.2".to_owned()))
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
