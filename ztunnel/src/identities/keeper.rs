//! The task that keeps the certificate of one identity current.

use std::sync::Arc;
use std::time::SystemTime;

use mesh::Identity;
use tls::WorkloadCertificate;
use tls::renewal::{Action, Renewal};
use tls::rotation::SPREAD;
use tokio::sync::watch;
use tracing::{info, warn};

use super::gate::{Permit, Priority};
use super::hurry::Hurry;
use super::{Identities, IdentityState, REQUEST_DEADLINE};

/// The task that keeps one certificate current.
pub(super) struct Keeper {
    pub(super) identities: Identities,
    pub(super) identity: Identity,
    pub(super) hurry: Arc<Hurry>,
    pub(super) state: watch::Sender<IdentityState>,
}

impl Keeper {
    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut renewal = Renewal::new();
        if let Some(certificate) = self.restored().await {
            // The authority may know better by now, and is asked soon, but nobody has to wait for it.
            let now = SystemTime::now();
            renewal.on_success(now, &certificate, rand::random());
            renewal.hasten(now + SPREAD.mul_f64(rand::random::<f64>()));
            let outcome = self.identities.rotation().on_restored(now, &certificate);
            self.identities.apply(outcome);
            self.state
                .send_modify(|state| state.certificate = Some(certificate));
            self.judge(&mut renewal);
        }
        loop {
            if let Some(at) = self.hurry.take_early() {
                renewal.hasten(at);
            }
            if self.hurry.take_judge() {
                self.judge(&mut renewal);
            }
            if let Action::Wait(wait) = renewal.next_action(SystemTime::now()) {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.hurry.changed() => {}
                }
                continue;
            }
            let outcome = {
                let _permit = self.turn().await;
                self.ask().await
            };
            match outcome {
                Ok(certificate) => {
                    renewal.on_success(SystemTime::now(), &certificate, rand::random());
                    self.replace(certificate.clone());
                    // It may have been taken back while it was on its way.
                    self.judge(&mut renewal);
                    self.keep(certificate).await;
                }
                Err(reason) => {
                    let identity = &self.identity;
                    warn!(%identity, reason, "no certificate from the authority; asking again");
                    renewal.on_failure(SystemTime::now(), rand::random());
                    self.state.send_modify(|state| state.failure = Some(reason));
                }
            }
        }
    }

    /// Asks for another certificate if the one held is revoked. Peers that are told the same refuse it.
    fn judge(&self, renewal: &mut Renewal) {
        let Some(certificate) = self.state.borrow().certificate.clone() else {
            return;
        };
        let is_revoked = certificate.is_revoked_by(self.identities.inner.configs.trust());
        let now = SystemTime::now();
        if is_revoked && renewal.on_revoked(now, rand::random()) {
            let wait = renewal.due().and_then(|due| due.duration_since(now).ok());
            let seconds = wait.unwrap_or_default().as_secs_f64();
            let (identity, serial) = (&self.identity, certificate.serial());
            warn!(%identity, serial, seconds, "the certificate is revoked, so peers refuse it; asking for another one");
            self.identities.inner.metrics.own_certificate_revoked();
        }
        self.state.send_if_modified(|state| {
            let is_news = state.is_revoked != is_revoked;
            state.is_revoked = is_revoked;
            is_news
        });
    }

    /// Waits for a turn, with more urgency as soon as a connection waits.
    async fn turn(&self) -> Permit {
        loop {
            let priority = match &self.state.borrow().certificate {
                _ if self.hurry.is_waited_for() => Priority::Connection,
                Some(_) => Priority::Renewal,
                None => Priority::Prefetch,
            };
            tokio::select! {
                permit = self.identities.inner.gate.enter(priority) => return permit,
                () = self.hurry.changed(), if priority != Priority::Connection => {}
            }
        }
    }

    /// What an earlier process has kept.
    async fn restored(&self) -> Option<WorkloadCertificate> {
        let store = self.identities.inner.store.clone()?;
        let identity = self.identity.clone();
        let load = tokio::task::spawn_blocking(move || store.load(&identity));
        load.await.ok().flatten()
    }

    async fn ask(&self) -> Result<WorkloadCertificate, String> {
        let inner = &self.identities.inner;
        let request = inner.issuer.issue(&self.identity, inner.life);
        match tokio::time::timeout(REQUEST_DEADLINE, request).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "the authority did not answer within {} s",
                REQUEST_DEADLINE.as_secs()
            )),
        }
    }

    async fn keep(&self, certificate: WorkloadCertificate) {
        if let Some(store) = self.identities.inner.store.clone() {
            // Its failure is logged there; a certificate that is in memory only serves as well.
            let _ = tokio::task::spawn_blocking(move || store.save(&certificate)).await;
        }
    }

    fn replace(&self, certificate: WorkloadCertificate) {
        let identity = &self.identity;
        info!(%identity, serial = %certificate.serial(), "certificate received");
        self.identities.received(&certificate);
        let before = self.state.send_replace(IdentityState {
            certificate: Some(certificate),
            failure: None,
            is_revoked: false,
        });
        if let Some(before) = before.certificate {
            self.identities.inner.configs.forget(&before);
        }
    }
}
