//! What peers are held against: roots, revocation lists, and trust domains besides the own.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mesh::Identity;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use webpki::EndEntityCert;

use crate::verify::{self, Chain, Purpose};
use crate::{HandshakeError, Peer, Revocation, RevocationLists, Roots};

/// The most certificates in a peer's chain above its own.
const MAX_INTERMEDIATES: usize = 8;
/// The longest chain of a peer, in bytes of DER. It is kept as long as the connection.
const MAX_CHAIN_BYTES: usize = 32 * 1024;

/// What the peers of one process are held against, replaceable while running. Clones share it.
///
/// It counts for every handshake that is judged after a change, whichever configuration it uses, and
/// [`Trust::recheck`] says whether a peer proven earlier would still be accepted.
#[derive(Clone)]
pub struct Trust {
    inner: Arc<Inner>,
}

struct Inner {
    aliases: Vec<String>,
    state: watch::Sender<Arc<State>>,
}

/// What is in force at one moment.
#[derive(Default)]
pub(crate) struct State {
    generation: u64,
    roots: Option<Roots>,
    retired: Option<Roots>,
    /// By what is configured.
    configured: Revocation,
    /// By what the control plane tells.
    told: RevocationLists,
    /// Both together.
    revocation: Revocation,
}

/// Tells of changes.
pub struct TrustChanges {
    receiver: watch::Receiver<Arc<State>>,
}

/// What a peer has shown, to be judged again when trust changes.
#[derive(Clone)]
pub(crate) struct Proof {
    pub(crate) chain: Arc<[CertificateDer<'static>]>,
    pub(crate) purpose: Purpose,
    pub(crate) at: SystemTime,
    /// What was in force when the handshake began.
    pub(crate) generation: u64,
    pub(crate) fallback: Roots,
}

impl Default for Trust {
    fn default() -> Self {
        Self::new([])
    }
}

impl Trust {
    /// The most trust domains that may be accepted besides the own.
    pub const MAX_ALIASES: usize = 64;

    /// Peers of the own trust domain and of `aliases` (at most [`Trust::MAX_ALIASES`], the rest is left out) are
    /// accepted. Until roots are set, each certificate's own roots count.
    pub fn new(aliases: impl IntoIterator<Item = String>) -> Self {
        let mut aliases: Vec<String> = aliases.into_iter().take(Self::MAX_ALIASES).collect();
        aliases.sort();
        aliases.dedup();
        Self {
            inner: Arc::new(Inner {
                aliases,
                state: watch::channel(Arc::default()).0,
            }),
        }
    }

    /// Holds peers against `roots` from now on.
    pub fn set_roots(&self, roots: Roots) {
        self.change(|state| state.roots = Some(roots));
    }

    /// Roots that were exchanged in good order: no handshake is believed for them, but what they have proven before
    /// stands, as it does when a certificate ends. Revocation lists of theirs still count.
    pub fn set_retired_roots(&self, roots: Option<Roots>) {
        self.change(|state| state.retired = roots);
    }

    /// Asks `revocation` from now on.
    pub fn set_revocation(&self, revocation: Revocation) {
        self.change(|state| state.configured = revocation);
    }

    /// Asks these lists too from now on.
    pub fn set_told_revocation(&self, lists: RevocationLists) {
        self.change(|state| state.told = lists);
    }

    /// The roots in force, once set.
    pub fn roots(&self) -> Option<Roots> {
        self.state().roots.clone()
    }

    /// The revocation lists in force.
    pub fn revocation(&self) -> Revocation {
        self.state().revocation.clone()
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> TrustChanges {
        TrustChanges {
            receiver: self.inner.state.subscribe(),
        }
    }

    /// Whether a peer proven earlier would be accepted by what is in force now, by the clock of its handshake: that
    /// a certificate ends does not end the connections that it proved.
    ///
    /// # Errors
    /// Why it would not be.
    pub fn recheck(&self, peer: &Peer) -> Result<(), HandshakeError> {
        let (state, proof) = (self.state(), &peer.proof);
        if state.generation == proof.generation {
            return Ok(());
        }
        let bad = |error: webpki::Error| HandshakeError::BadCertificate(error.to_string());
        let (first, rest) = proof.chain.split_first().ok_or(HandshakeError::NoCertificate)?;
        let leaf = EndEntityCert::try_from(first).map_err(bad)?;
        let since = proof
            .at
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let at = UnixTime::since_unix_epoch(since);
        let judged = match state.judge(&leaf, rest, &proof.fallback, at, proof.purpose) {
            Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
                match &state.retired {
                    Some(retired) => state.judge_against(retired, &leaf, rest, at, proof.purpose),
                    None => Err(rustls::CertificateError::UnknownIssuer.into()),
                }
            }
            judged => judged,
        };
        judged.map_err(|error| HandshakeError::from_tls(error, true))
    }

    /// Whether peers of the trust domain `got` are accepted by holders of an identity of `own`.
    pub(crate) fn accepts_domain(&self, own: &str, got: &str) -> bool {
        got == own || self.inner.aliases.iter().any(|alias| alias == got)
    }

    /// The identities of `accepted`, and the same workloads' under the other names of the trust domain `own`.
    pub(crate) fn with_aliases(&self, own: &str, accepted: &[Identity]) -> Vec<Identity> {
        let mut all = accepted.to_vec();
        for identity in accepted {
            if !self.accepts_domain(own, identity.trust_domain()) {
                continue;
            }
            for domain in self.inner.aliases.iter().map(String::as_str).chain([own]) {
                all.push(Identity::new(
                    domain,
                    identity.namespace(),
                    identity.service_account(),
                ));
            }
        }
        all.sort();
        all.dedup();
        all
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.inner.state.borrow().clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.inner.state.send_modify(|current| {
            let mut next = State {
                generation: current.generation + 1,
                roots: current.roots.clone(),
                retired: current.retired.clone(),
                configured: current.configured.clone(),
                told: current.told.clone(),
                revocation: Revocation::Unchecked,
            };
            change(&mut next);
            next.revocation = next.configured.with(&next.told);
            *current = Arc::new(next);
        });
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Trust")
            .field("generation", &state.generation)
            .field("roots", &state.roots)
            .field("revocation", &state.revocation)
            .field("aliases", &self.inner.aliases)
            .finish()
    }
}

impl TrustChanges {
    /// Waits for the next change; changes in between are one. False: there is no one left to change anything.
    pub async fn next(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }
}

impl State {
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a peer that shows `leaf` and `intermediates` is to be believed. `fallback` counts until roots are
    /// set.
    pub(crate) fn judge(
        &self,
        leaf: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        fallback: &Roots,
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), rustls::Error> {
        let bytes = leaf.der().len() + intermediates.iter().map(|der| der.len()).sum::<usize>();
        if intermediates.len() > MAX_INTERMEDIATES || bytes > MAX_CHAIN_BYTES {
            return Err(verify::refuse(HandshakeError::BadCertificate(format!(
                "a chain of {} certificates and {bytes} bytes; at most {} and {MAX_CHAIN_BYTES} are read",
                intermediates.len() + 1,
                MAX_INTERMEDIATES + 1
            ))));
        }
        let roots = self.roots.as_ref().unwrap_or(fallback);
        self.judge_against(roots, leaf, intermediates, now, purpose)
    }

    fn judge_against(
        &self,
        roots: &Roots,
        leaf: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), rustls::Error> {
        let chain = Chain {
            leaf,
            intermediates,
            anchors: roots.anchors(),
            now,
            purpose,
        };
        chain.verify()?;
        self.revocation.judge(&chain)
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}
