//! The server's own certificate, signed by the CA that it hosts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ca::{Authority, SignError};
use tls::CertificateError;
use tls::server_auth::{Acceptor, ServerIdentity};
use tokio::sync::watch;

/// How long the server's certificate lives.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// How often its age is looked at: the clock may jump, so nothing sleeps for half a life.
const LOOK: Duration = Duration::from_secs(60);

/// The server has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServerCertificateError {
    /// The CA does not sign it.
    #[error("no certificate for this server: {0}")]
    Sign(#[from] SignError),
    /// What it signed cannot be used.
    #[error("the certificate for this server cannot be used: {0}")]
    Use(#[from] CertificateError),
}

/// A certificate for these names, from now on.
pub(crate) fn issue(
    authority: &Authority,
    names: &[String],
) -> Result<ServerIdentity, ServerCertificateError> {
    let certificate = authority.issue_server_certificate(names, LIFE, SystemTime::now())?;
    Ok(ServerIdentity::from_pem(
        &certificate.chain_pem,
        &certificate.key,
    )?)
}

/// Renews the certificate at half its life, and when what signs is exchanged, until the future is dropped.
/// `exchanges` is the authority's from before the first certificate was issued.
pub(crate) async fn renew(
    authority: Arc<Authority>,
    names: Vec<String>,
    acceptor: Arc<Acceptor>,
    mut exchanges: watch::Receiver<u64>,
) {
    let mut is_due = false;
    loop {
        if is_due {
            match issue(&authority, &names) {
                Ok(identity) => {
                    acceptor.replace(identity);
                    is_due = false;
                    tracing::info!("the server's certificate is renewed");
                }
                Err(error) => tracing::error!("the server's certificate cannot be renewed: {error}"),
            }
        }
        tokio::select! {
            changed = exchanges.changed() => is_due |= changed.is_ok(),
            () = tokio::time::sleep(LOOK) => {}
        }
        let left = acceptor.not_after().duration_since(SystemTime::now());
        is_due |= left.unwrap_or_default() <= LIFE / 2;
    }
}
