//! The certificates of the identities that live on this node.
//!
//! A pod that is added holds its identity; the first holder starts the request, the last one to leave ends
//! it. Renewal is decided by `tls::renewal`, which roots count by `tls::rotation`; this module gives them the time,
//! the entropy and the issuer. Requests take turns at a gate (`gate.rs`).

mod gate;
mod hurry;
mod keeper;
mod store;

use gate::Gate;
use hurry::Hurry;
use keeper::Keeper;
use mesh::Identity;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use telemetry::Metrics;
use tls::rotation::{Outcome, RootRotation, SPREAD};
use tls::{ConfigCache, Issuer, RevocationLists, Roots, WorkloadCertificate};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::info;

pub(crate) use store::KeyStore;

/// The roots that the control plane says count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// Greater with every change.
    pub(crate) generation: u64,
    /// All of them.
    pub(crate) roots: Roots,
    /// Those that were exchanged in good order: what they have proven before stands.
    pub(crate) retired: Option<Roots>,
    /// What is revoked.
    pub(crate) revoked: Revoked,
}

/// Lists of certificates that were taken back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revoked {
    /// Greater with every change; two of one number are the same.
    pub(crate) number: u64,
    /// As they came, in PEM.
    pub(crate) text: Arc<str>,
    pub(crate) lists: RevocationLists,
}

impl PartialEq for Revoked {
    fn eq(&self, other: &Self) -> bool {
        (self.number, &self.text) == (other.number, &other.text)
    }
}

impl Eq for Revoked {}

impl Revoked {
    /// What a bundle says.
    ///
    /// # Errors
    /// When lists cannot be read.
    pub(crate) fn read(number: u64, text: &str) -> Result<Self, String> {
        let lists = match text.trim() {
            "" => RevocationLists::default(),
            text => RevocationLists::parse([text.as_bytes()]).map_err(|error| error.to_string())?,
        };
        Ok(Self {
            number,
            text: text.into(),
            lists,
        })
    }
}

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
    /// The certificate is revoked, and another one is being asked for.
    pub(crate) is_revoked: bool,
}

impl IdentityState {
    /// In one word.
    pub(crate) fn summary(&self, now: SystemTime) -> telemetry::CertificateState {
        match (&self.certificate, &self.failure) {
            (None, _) => telemetry::CertificateState::Pending,
            (Some(certificate), _) if now >= certificate.not_after() => telemetry::CertificateState::Expired,
            (Some(_), _) if self.is_revoked => telemetry::CertificateState::Revoked,
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
    gate: Gate,
    slots: Mutex<HashMap<Identity, Slot>>,
    rotation: Mutex<RootRotation>,
    bundle: Mutex<Option<Bundle>>,
    configs: Arc<ConfigCache>,
    store: Option<KeyStore>,
    metrics: Metrics,
    /// This process is ending, not its pods: what is on disk stays for the next one.
    stopping: AtomicBool,
}

struct Slot {
    holders: usize,
    state: watch::Receiver<IdentityState>,
    hurry: Arc<Hurry>,
    task: AbortHandle,
}

impl Identities {
    /// Asks `issuer` for certificates of `life`. The roots that come with them count in `configs`.
    #[cfg(test)]
    pub(crate) fn new(issuer: Arc<dyn Issuer>, life: Duration, configs: Arc<ConfigCache>) -> Self {
        Self::kept_in(None, issuer, life, configs, Metrics::new(Default::default()))
    }

    /// Asks `issuer` for certificates of `life`, and keeps them in `store`, if there is one. The roots that come
    /// with them count in `configs`.
    pub(crate) fn kept_in(
        store: Option<KeyStore>,
        issuer: Arc<dyn Issuer>,
        life: Duration,
        configs: Arc<ConfigCache>,
        metrics: Metrics,
    ) -> Self {
        let kept = store.as_ref().and_then(KeyStore::load_bundle);
        let identities = Self {
            inner: Arc::new(Inner {
                issuer,
                life,
                gate: Gate::new(MAX_CONCURRENT_REQUESTS),
                slots: Mutex::default(),
                rotation: Mutex::default(),
                bundle: Mutex::default(),
                configs,
                store,
                metrics,
                stopping: AtomicBool::new(false),
            }),
        };
        if let Some(bundle) = kept {
            identities.use_bundle(bundle);
        }
        identities
    }

    /// The bundle in force, if there is one.
    pub(crate) fn bundle(&self) -> Option<Bundle> {
        self.bundle_slot().clone()
    }

    /// Holds peers against the roots of `bundle` from now on, and keeps it where certificates are kept.
    pub(crate) async fn set_bundle(&self, bundle: Bundle) {
        self.use_bundle(bundle.clone());
        if let Some(store) = self.inner.store.clone() {
            // Its failure is logged there; what is in memory serves as well.
            let _ = tokio::task::spawn_blocking(move || store.save_bundle(&bundle)).await;
        }
    }

    fn use_bundle(&self, bundle: Bundle) {
        let roots = bundle.roots.clone();
        // First, so that nothing is closed in between.
        self.inner
            .configs
            .trust()
            .set_retired_roots(bundle.retired.clone());
        self.inner
            .configs
            .trust()
            .set_told_revocation(bundle.revoked.lists.clone());
        *self.bundle_slot() = Some(bundle);
        let outcome = self.rotation().on_bundle(SystemTime::now(), roots, rand::random);
        self.apply(outcome);
    }

    /// This process ends: what is on disk stays when pods are let go from now on.
    pub(crate) fn stopping(&self) {
        self.inner.stopping.store(true, Ordering::SeqCst);
    }

    /// Keeps a certificate for `identity` current until the guard is dropped.
    pub(crate) fn hold(&self, identity: &Identity) -> Held {
        let mut slots = self.lock();
        let slot = slots.entry(identity.clone()).or_insert_with(|| {
            let (sender, state) = watch::channel(IdentityState::default());
            let hurry = Arc::new(Hurry::default());
            let keeper = Keeper {
                identities: self.clone(),
                identity: identity.clone(),
                hurry: hurry.clone(),
                state: sender,
            };
            Slot {
                holders: 0,
                state,
                hurry,
                task: tokio::spawn(keeper.run()).abort_handle(),
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
        let (mut state, hurry) = {
            let slots = self.lock();
            let slot = slots
                .get(identity)
                .ok_or_else(|| CertificateError::NotHeld(identity.clone()))?;
            (slot.state.clone(), slot.hurry.clone())
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
        let waiting = hurry.wait();
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
        drop(waiting);
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

    /// The state of one that is held.
    pub(crate) fn state(&self, identity: &Identity) -> Option<IdentityState> {
        Some(self.lock().get(identity)?.state.borrow().clone())
    }

    /// Renews all certificates, spread over some time.
    pub(crate) fn renew_all_early(&self) {
        let now = SystemTime::now();
        for slot in self.lock().values() {
            slot.hurry.renew_at(now + SPREAD.mul_f64(rand::random::<f64>()));
        }
    }

    /// What peers are held against has changed: whoever holds a certificate that is revoked now asks for another one.
    pub(crate) fn judge(&self) {
        for slot in self.lock().values() {
            slot.hurry.judge();
        }
    }

    /// Lets go of roots whose time is over.
    pub(crate) fn tick(&self) {
        let outcome = self.rotation().tick(SystemTime::now());
        self.apply(outcome);
    }

    /// What comes with a new certificate for `identity`, before anybody uses it.
    fn received(&self, certificate: &WorkloadCertificate) {
        let outcome = self
            .rotation()
            .on_certificate(SystemTime::now(), certificate, rand::random);
        self.apply(outcome);
    }

    fn apply(&self, outcome: Outcome) {
        if let Some(roots) = outcome.trusted {
            info!(
                roots = roots.len(),
                "the roots that peers are held against have changed"
            );
            self.inner.configs.trust().set_roots(roots);
        }
        if outcome.renew.is_empty() {
            return;
        }
        let now = SystemTime::now();
        let slots = self.lock();
        for (identity, wait) in outcome.renew {
            if let Some(slot) = slots.get(&identity) {
                info!(%identity, seconds = wait.as_secs(), "the authority's roots have changed; this certificate is renewed early");
                slot.hurry.renew_at(now + wait);
            }
        }
    }

    fn release(&self, identity: &Identity) {
        let left = {
            let mut slots = self.lock();
            let Some(slot) = slots.get_mut(identity) else {
                return;
            };
            slot.holders -= 1;
            if slot.holders > 0 {
                return;
            }
            slot.task.abort();
            slots.remove(identity)
        };
        if let Some(certificate) = left.and_then(|slot| slot.state.borrow().certificate.clone()) {
            self.inner.configs.forget(&certificate);
        }
        let outcome = self.rotation().forget(SystemTime::now(), identity);
        self.apply(outcome);
        if let Some(store) = &self.inner.store
            && !self.inner.stopping.load(Ordering::SeqCst)
        {
            store.remove(identity);
        }
    }

    fn bundle_slot(&self) -> MutexGuard<'_, Option<Bundle>> {
        self.inner.bundle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rotation(&self) -> MutexGuard<'_, RootRotation> {
        self.inner.rotation.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests;
