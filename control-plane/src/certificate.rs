//! The server's own certificate, signed by the CA that it hosts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ca::{Authority, Moment, SignError};
use tls::CertificateError;
use tls::server_auth::{Acceptor, ServerIdentity};
use tokio::sync::watch;

use crate::clock::Clock;

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

/// A certificate of this server.
pub(crate) struct Own {
    pub(crate) identity: ServerIdentity,
    pub(crate) not_before: SystemTime,
}

/// A certificate for these names, from now on.
pub(crate) fn issue(
    authority: &Authority,
    names: &[String],
    clock: &Clock,
) -> Result<Own, ServerCertificateError> {
    issue_at(authority, names, &clock.now())
}

fn issue_at(authority: &Authority, names: &[String], now: &Moment) -> Result<Own, ServerCertificateError> {
    let certificate = authority.issue_server_certificate(names, LIFE, *now)?;
    Ok(Own {
        identity: ServerIdentity::from_pem(&certificate.chain_pem, &certificate.key)?,
        not_before: certificate.not_before,
    })
}

/// Renews the certificate at half its life, and when what signs is exchanged, until the future is dropped.
/// `exchanges` is the authority's from before the first certificate was issued, which was valid from `not_before` on.
pub(crate) async fn renew(
    authority: Arc<Authority>,
    names: Vec<String>,
    acceptor: Arc<Acceptor>,
    clock: Clock,
    mut not_before: SystemTime,
    mut exchanges: watch::Receiver<u64>,
) {
    let mut is_due = false;
    loop {
        if is_due {
            match issue(&authority, &names, &clock) {
                Ok(own) => {
                    acceptor.replace(own.identity);
                    not_before = own.not_before;
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
        is_due |= is_needed(not_before, acceptor.not_after(), &clock.now());
    }
}

/// Whether a certificate is too old, or not valid yet: the clock was set back since.
fn is_needed(not_before: SystemTime, not_after: SystemTime, now: &Moment) -> bool {
    let left = not_after.duration_since(now.likely).unwrap_or_default();
    left <= LIFE / 2 || now.likely < not_before
}

#[cfg(test)]
mod tests;
