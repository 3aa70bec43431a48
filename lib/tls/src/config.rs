//! Handshake settings, built once per certificate and set of accepted peers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mesh::Identity;
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;

use crate::provider::provider;
use crate::verify::{ClientVerifier, ServerVerifier};
use crate::{CompliancePolicy, HandshakeError, Trust, Versions, WorkloadCertificate};

/// The protocol spoken inside every tunnel.
pub(crate) const ALPN: &[u8] = b"h2";

/// How to connect: who we are and whom we accept. Cheap to clone.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) inner: Arc<rustls::ClientConfig>,
    pub(crate) trust: Trust,
    own: WorkloadCertificate,
}

/// How to accept: who we are. Cheap to clone.
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) inner: Arc<rustls::ServerConfig>,
    pub(crate) trust: Trust,
    own: WorkloadCertificate,
}

/// Built configurations, kept while they are used.
///
/// At most [`ConfigCache::CAPACITY`] of each kind; the least recently used goes first.
///
/// A certificate that was renewed is another one, and gets configurations of its own. A change of [`Trust`] needs
/// none: it is looked up when a peer is judged.
#[derive(Default)]
pub struct ConfigCache {
    trust: Trust,
    policy: CompliancePolicy,
    versions: Versions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clock: u64,
    clients: HashMap<ClientKey, Used<ClientConfig>>,
    servers: HashMap<[u8; 32], Used<ServerConfig>>,
}

type ClientKey = ([u8; 32], Arc<[Identity]>);

struct Used<T> {
    value: T,
    at: u64,
}

impl ConfigCache {
    /// The most configurations kept of each kind.
    pub const CAPACITY: usize = 1024;

    /// An empty cache, in which each certificate's peers are held against the roots that it came with.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cache, in which all peers are held against `trust`, and only what `policy` allows is spoken.
    pub fn with(trust: Trust, policy: CompliancePolicy) -> Self {
        Self {
            trust,
            policy,
            versions: Versions::default(),
            state: Mutex::default(),
        }
    }

    /// The same, speaking these versions of TLS. Nothing must have been made yet.
    #[must_use]
    pub fn speaking(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// What peers are held against.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// How `own` connects to a server that must be one of `accepted`. An empty set accepts nobody.
    pub fn client(&self, own: &WorkloadCertificate, accepted: &[Identity]) -> ClientConfig {
        let mut accepted = accepted.to_vec();
        accepted.sort();
        accepted.dedup();
        let accepted: Arc<[Identity]> = accepted.into();
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        let key = (own.fingerprint(), accepted);
        if let Some(used) = state.clients.get_mut(&key) {
            used.at = now;
            return used.value.clone();
        }
        let value = ClientConfig::new(own, key.1.clone(), &self.trust, self.policy, self.versions);
        make_room(&mut state.clients);
        state.clients.insert(
            key,
            Used {
                value: value.clone(),
                at: now,
            },
        );
        value
    }

    /// How `own` accepts clients.
    pub fn server(&self, own: &WorkloadCertificate) -> ServerConfig {
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        let key = own.fingerprint();
        if let Some(used) = state.servers.get_mut(&key) {
            used.at = now;
            return used.value.clone();
        }
        let value = ServerConfig::new(own, &self.trust, self.policy, self.versions);
        make_room(&mut state.servers);
        state.servers.insert(
            key,
            Used {
                value: value.clone(),
                at: now,
            },
        );
        value
    }

    /// Drops what was built for `own`, as after its renewal. Connections in use keep theirs.
    pub fn forget(&self, own: &WorkloadCertificate) {
        let mut state = self.lock();
        state.clients.retain(|key, _| key.0 != own.fingerprint());
        state.servers.remove(&own.fingerprint());
    }

    /// How many configurations are kept.
    pub fn len(&self) -> usize {
        let state = self.lock();
        state.clients.len() + state.servers.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientConfig {
    fn new(
        own: &WorkloadCertificate,
        accepted: Arc<[Identity]>,
        trust: &Trust,
        policy: CompliancePolicy,
        versions: Versions,
    ) -> Self {
        let verifier = ServerVerifier::new(trust.clone(), own, accepted);
        let mut config = rustls::ClientConfig::builder_with_provider(provider(policy, versions))
            .with_protocol_versions(versions.under(policy))
            .expect("our provider has suites of these versions: provider.rs")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified_key())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.require_ems = policy == CompliancePolicy::Fips;
        config.enable_sni = false;
        Self {
            inner: Arc::new(config),
            trust: trust.clone(),
            own: own.clone(),
        }
    }

    /// Whether this is the very same configuration, not only an equal one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Who we are towards the server.
    pub fn certificate(&self) -> &WorkloadCertificate {
        &self.own
    }

    pub(crate) fn check(&self, now: SystemTime) -> Result<(), HandshakeError> {
        usable(&self.own, now)
    }
}

impl ServerConfig {
    fn new(own: &WorkloadCertificate, trust: &Trust, policy: CompliancePolicy, versions: Versions) -> Self {
        let verifier = ClientVerifier::new(trust.clone(), own);
        let mut config = rustls::ServerConfig::builder_with_provider(provider(policy, versions))
            .with_protocol_versions(versions.under(policy))
            .expect("our provider has suites of these versions: provider.rs")
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(own.certified_key())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // Of TLS 1.2, FIPS 140-3 approves only the derivation of RFC 7627.
        config.require_ems = policy == CompliancePolicy::Fips;
        Self {
            inner: Arc::new(config),
            trust: trust.clone(),
            own: own.clone(),
        }
    }

    /// Whether this is the very same configuration, not only an equal one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Who we are towards clients.
    pub fn certificate(&self) -> &WorkloadCertificate {
        &self.own
    }

    pub(crate) fn check(&self, now: SystemTime) -> Result<(), HandshakeError> {
        usable(&self.own, now)
    }
}

fn usable(own: &WorkloadCertificate, now: SystemTime) -> Result<(), HandshakeError> {
    // A notBefore ahead of our clock is the peer's to judge, by its own clock.
    if now < own.not_after() {
        Ok(())
    } else {
        Err(HandshakeError::OwnCertificateInvalid {
            identity: own.identity().clone(),
        })
    }
}

fn make_room<K: Clone + Eq + std::hash::Hash, V>(map: &mut HashMap<K, Used<V>>) {
    if map.len() >= ConfigCache::CAPACITY
        && let Some(oldest) = map
            .iter()
            .min_by_key(|(_, used)| used.at)
            .map(|(key, _)| key.clone())
    {
        map.remove(&oldest);
    }
}
