//! From a byte stream to an authenticated one.

use std::time::{Duration, SystemTime};

use mesh::Identity;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use webpki::EndEntityCert;

use crate::certificate::Details;
use crate::config::ALPN;
use crate::stream::Connection;
use crate::trust::Proof;
use crate::verify::{self, Purpose};
use crate::{ClientConfig, HandshakeError, ServerConfig, Stream, WorkloadCertificate};

/// The longest a handshake may take, from the first byte to the last.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a refused client may go on sending, and how much: closing at once would make the kernel answer
/// its bytes with a reset, which can overtake the alert that says why.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 64 * 1024;

/// Who is at the other end, as proven by its certificate.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The SPIFFE identity.
    pub identity: Identity,
    /// The end of its certificate's life.
    pub not_after: SystemTime,
    /// Its certificate's serial number, in lower-case hexadecimal.
    pub serial: String,
    /// What it has shown.
    pub(crate) proof: Proof,
}

/// Connects as a client over `io`.
///
/// The handshake ends, for a client of TLS 1.3, before the server has judged the client's certificate: see
/// [`HandshakeError::from_io`]. Dropping the future abandons the connection.
///
/// # Errors
/// Every way in which the peer, the network or our own certificate can fail has its own value.
pub async fn connect<IO>(io: IO, config: &ClientConfig) -> Result<(Stream<IO>, Peer), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    config.check(SystemTime::now())?;
    // No name is sent: an address never is, and this one is nobody's.
    let nobody = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let tls = UnbufferedClientConnection::new(config.inner.clone(), nobody)
        .map_err(|error| HandshakeError::from_tls(error, false))?;
    let generation = config.trust.state().generation();
    let stream = run(io, Connection::Client(tls)).await?;
    let peer = peer(&stream, Purpose::Server, generation, config.certificate())?;
    Ok((stream, peer))
}

/// Accepts a client over `io`. It must show a certificate of our trust domain.
///
/// # Errors
/// As for [`connect`]. The client is told by an alert.
pub async fn accept<IO>(io: IO, config: &ServerConfig) -> Result<(Stream<IO>, Peer), HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    config.check(SystemTime::now())?;
    let tls = UnbufferedServerConnection::new(config.inner.clone())
        .map_err(|error| HandshakeError::from_tls(error, false))?;
    let generation = config.trust.state().generation();
    let stream = run(io, Connection::Server(tls)).await?;
    let peer = peer(&stream, Purpose::Client, generation, config.certificate())?;
    Ok((stream, peer))
}

/// Runs a handshake to its end, within [`HANDSHAKE_TIMEOUT`].
pub(crate) async fn run<IO>(io: IO, tls: Connection) -> Result<Stream<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    run_speaking(io, tls, |protocol| protocol == Some(ALPN)).await
}

/// As [`run`], where `accepted` says which protocol inside will do.
pub(crate) async fn run_speaking<IO>(
    io: IO,
    tls: Connection,
    accepted: fn(Option<&[u8]>) -> bool,
) -> Result<Stream<IO>, HandshakeError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = Stream::new(io, tls);
    let done = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.handshake()).await;
    let outcome = match done {
        Ok(Ok(())) if accepted(stream.alpn()) => return Ok(stream),
        Ok(Ok(())) => HandshakeError::Alpn,
        Ok(Err(error)) => error,
        Err(_) => return Err(HandshakeError::Timeout(HANDSHAKE_TIMEOUT)),
    };
    if !matches!(
        outcome,
        HandshakeError::Io { .. } | HandshakeError::PeerClosed | HandshakeError::PeerAlert(_)
    ) {
        let _ = tokio::time::timeout(LINGER, say_goodbye(stream.get_mut())).await;
    }
    Err(outcome)
}

/// Lets the alert, which is already written, arrive.
async fn say_goodbye<IO: AsyncRead + AsyncWrite + Unpin>(io: &mut IO) {
    if io.flush().await.is_err() || io.shutdown().await.is_err() {
        return;
    }
    let mut scrap = [0; 1024];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match io.read(&mut scrap).await {
            Ok(read) if read > 0 => left = left.saturating_sub(read),
            _ => return,
        }
    }
}

fn peer<IO>(
    stream: &Stream<IO>,
    purpose: Purpose,
    generation: u64,
    own: &WorkloadCertificate,
) -> Result<Peer, HandshakeError> {
    let chain = stream.peer_chain().unwrap_or_default();
    let leaf = chain.first().ok_or(HandshakeError::NoCertificate)?;
    let bad = |error: String| HandshakeError::BadCertificate(error);
    let certificate = EndEntityCert::try_from(leaf).map_err(|error| bad(error.to_string()))?;
    let identity = verify::identity(&certificate)?;
    let details = Details::of(leaf).map_err(|error| bad(error.to_string()))?;
    Ok(Peer {
        identity,
        not_after: details.not_after,
        serial: details.serial,
        proof: Proof {
            chain: chain.into(),
            purpose,
            at: SystemTime::now(),
            generation,
            fallback: own.roots().clone(),
        },
    })
}
