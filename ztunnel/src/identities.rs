//! The certificates of the identities that live on this node.
//!
//! A pod that is added holds its identity; the first holder starts the request, the last one to leave ends
//! it. Renewal is decided by `tls::renewal`; this module gives it the time, the entropy and the issuer.

use mesh::Identity;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tls::renewal::{Action, Renewal};
use tls::{Issuer, WorkloadCertificate};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tracing::{info, warn};

/// Requests to the authority that run at once.
const MAX_CONCURRENT_REQUESTS: usize = 8;

/// How long one request may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection waits for its first certificate.
pub(crate) const WAIT_FOR_CERTIFICATE: Duration = Duration::from_secs(5);

/// No certificate to be had.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CertificateError {
    /// Nobody on this node holds the identity.
    #[error("{0} belongs to no pod of this node")]
    NotHeld(Identity),
    /// The authority has not answered in time, or refuses.
    #[error("no certificate for {identity}: {reason}; look at the control plane's log for this identity")]
    Unavailable {
        /// Whose certificate.
        identity: Identity,
        /// The last failure.
        reason: String,
    },
    /// The last certificate ran out and could not be renewed.
    #[error("the certificate of {identity} has expired and renewal fails: {reason}")]
    Expired {
        /// Whose certificate.
        identity: Identity,
        /// The last failure.
        reason: String,
    },
}

/// What is known of one identity's certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdentityState {
    /// The newest certificate; it may have expired.
    pub(crate) certificate: Option<WorkloadCertificate>,
    /// Why the last request failed, if it did.
    pub(crate) failure: Option<String>,
}

impl IdentityState {
    /// In one word.
    pub(crate) fn summary(&self, now: SystemTime) -> telemetry::CertificateState {
        match (&self.certificate, &self.failure) {
            (None, _) => telemetry::CertificateState::Pending,
            (Some(certificate), _) if now >= certificate.not_after() => telemetry::CertificateState::Expired,
            (Some(_), None) => telemetry::CertificateState::Valid,
            (Some(_), Some(_)) => telemetry::CertificateState::RenewalFailing,
        }
    }
}

/// All certificates.
#[derive(Clone)]
pub(crate) struct Identities {
    inner: Arc<Inner>,
}

struct Inner {
    issuer: Arc<dyn Issuer>,
    life: Duration,
    running: Arc<Semaphore>,
    slots: Mutex<HashMap<Identity, Slot>>,
}

struct Slot {
    holders: usize,
    state: watch::Receiver<IdentityState>,
    task: AbortHandle,
}

impl Identities {
    /// Asks `issuer` for certificates of `life`.
    pub(crate) fn new(issuer: Arc<dyn Issuer>, life: Duration) -> Self {
        let running = Arc::new(Semaphore::new(MAX_CONCURRENT_REQUESTS));
        Self {
            inner: Arc::new(Inner {
                issuer,
                life,
                running,
                slots: Mutex::default(),
            }),
        }
    }

    /// Keeps a certificate for `identity` current until the guard is dropped.
    pub(crate) fn hold(&self, identity: &Identity) -> Held {
        let mut slots = self.lock();
        let slot = slots.entry(identity.clone()).or_insert_with(|| {
            let (sender, state) = watch::channel(IdentityState::default());
            let task =
                tokio::spawn(keep_current(self.inner.clone(), identity.clone(), sender)).abort_handle();
            Slot {
                holders: 0,
                state,
                task,
            }
        });
        slot.holders += 1;
        Held {
            identity: identity.clone(),
            identities: self.clone(),
        }
    }

    /// A certificate that is valid now; waits [`WAIT_FOR_CERTIFICATE`] for the first one.
    pub(crate) async fn certificate(
        &self,
        identity: &Identity,
    ) -> Result<WorkloadCertificate, CertificateError> {
        let mut state = {
            let slots = self.lock();
            let slot = slots
                .get(identity)
                .ok_or_else(|| CertificateError::NotHeld(identity.clone()))?;
            slot.state.clone()
        };
        let valid = |state: &IdentityState| {
            state
                .certificate
                .clone()
                .filter(|certificate| SystemTime::now() < certificate.not_after())
        };
        if let Some(certificate) = valid(&state.borrow()) {
            return Ok(certificate);
        }
        let wait = async {
            loop {
                if let Some(certificate) = valid(&state.borrow_and_update()) {
                    return Some(certificate);
                }
                state.changed().await.ok()?;
            }
        };
        if let Ok(Some(certificate)) = tokio::time::timeout(WAIT_FOR_CERTIFICATE, wait).await {
            return Ok(certificate);
        }
        let last = state.borrow().clone();
        let identity = identity.clone();
        let reason = last
            .failure
            .unwrap_or_else(|| "the authority has not answered yet".into());
        Err(match last.certificate {
            Some(_) => CertificateError::Expired { identity, reason },
            None => CertificateError::Unavailable { identity, reason },
        })
    }

    /// Every identity held, with its state.
    pub(crate) fn list(&self) -> Vec<(Identity, IdentityState)> {
        let slots = self.lock();
        let mut list: Vec<_> = slots
            .iter()
            .map(|(identity, slot)| (identity.clone(), slot.state.borrow().clone()))
            .collect();
        list.sort_by(|one, other| one.0.cmp(&other.0));
        list
    }

    fn release(&self, identity: &Identity) {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(identity) {
            slot.holders -= 1;
            if slot.holders == 0 {
                slot.task.abort();
                slots.remove(identity);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Slot>> {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one identity's certificate alive.
pub(crate) struct Held {
    identity: Identity,
    identities: Identities,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.identities.release(&self.identity);
    }
}

async fn keep_current(inner: Arc<Inner>, identity: Identity, state: watch::Sender<IdentityState>) {
    let mut renewal = Renewal::new();
    loop {
        if let Action::Wait(wait) = renewal.next_action(SystemTime::now()) {
            tokio::time::sleep(wait).await;
            continue;
        }
        // The semaphore is never closed.
        let Ok(_permit) = inner.running.acquire().await else {
            return;
        };
        let request = inner.issuer.issue(&identity, inner.life);
        let outcome = match tokio::time::timeout(REQUEST_DEADLINE, request).await {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "the authority did not answer within {} s",
                REQUEST_DEADLINE.as_secs()
            )),
        };
        match outcome {
            Ok(certificate) => {
                info!(%identity, serial = %certificate.serial(), "certificate received");
                renewal.on_success(SystemTime::now(), &certificate, rand::random());
                state.send_modify(|state| {
                    *state = IdentityState {
                        certificate: Some(certificate),
                        failure: None,
                    }
                });
            }
            Err(reason) => {
                warn!(%identity, reason, "no certificate from the authority; asking again");
                renewal.on_failure(SystemTime::now(), rand::random());
                state.send_modify(|state| state.failure = Some(reason));
            }
        }
    }
}

#[cfg(test)]
mod tests;
