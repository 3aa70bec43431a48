//! Who is connected, and how far each proxy is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::node::ProxyName;
use super::session::{Rejection, Session};

/// How many proxies are remembered. Beyond that those are forgotten that have been away longest.
const MAX_PROXIES: usize = 20_000;

/// All proxies that are connected, or were.
#[derive(Clone, Default)]
pub(crate) struct Proxies {
    known: Arc<Mutex<BTreeMap<(String, String), Proxy>>>,
}

/// How far one proxy is, as the debug page shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProxyState {
    pub(crate) node: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) connected: bool,
    /// Everything up to this revision of the store was sent.
    pub(crate) sent: u64,
    /// Everything up to this revision of the store was sent and answered.
    pub(crate) acknowledged: u64,
    /// How many responses on this stream it has not answered in time.
    pub(crate) overdue: u64,
    /// What it has not accepted.
    pub(crate) rejected: Vec<Rejected>,
    /// How often it has rejected something.
    pub(crate) rejections: u64,
}

/// A resource that a proxy has not accepted.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rejected {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) reason: String,
}

struct Proxy {
    stream: u64,
    /// When it was last seen; for forgetting.
    seen: Instant,
    state: ProxyState,
}

/// One stream's place in the list; the proxy counts as away when this is dropped.
pub(crate) struct Connected {
    proxies: Proxies,
    key: (String, String),
    stream: u64,
}

impl Proxies {
    /// A proxy is there. A newer stream of the same pod takes the place of the older one.
    pub(crate) fn connect(&self, name: ProxyName, stream: u64) -> Connected {
        let key = (name.node.clone(), format!("{}/{}", name.namespace, name.pod));
        let mut known = self.lock();
        if known.len() >= MAX_PROXIES && !known.contains_key(&key) {
            let away = known.iter().filter(|(_, proxy)| !proxy.state.connected);
            if let Some(longest) = away
                .min_by_key(|(_, proxy)| proxy.seen)
                .map(|(key, _)| key.clone())
            {
                known.remove(&longest);
            }
        }
        let rejections = known.get(&key).map_or(0, |proxy| proxy.state.rejections);
        let state = ProxyState {
            node: name.node,
            namespace: name.namespace,
            pod: name.pod,
            connected: true,
            sent: 0,
            acknowledged: 0,
            overdue: 0,
            rejected: Vec::new(),
            rejections,
        };
        known.insert(
            key.clone(),
            Proxy {
                stream,
                seen: Instant::now(),
                state,
            },
        );
        Connected {
            proxies: self.clone(),
            key,
            stream,
        }
    }

    /// All proxies, by node and pod.
    pub(crate) fn list(&self) -> Vec<ProxyState> {
        self.lock().values().map(|proxy| proxy.state.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Proxy>> {
        // Each entry is right by itself, so a panic elsewhere does not spoil the list.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    /// The proxy's pod, `namespace/name`.
    pub(crate) fn name(&self) -> &str {
        &self.key.1
    }

    /// Writes down how far the session is, and how much was rejected just now.
    pub(crate) fn update(&self, session: &Session, rejections: &[Rejection]) {
        self.with(|proxy| {
            let state = &mut proxy.state;
            let changed =
                state.sent != session.sent() || !state.rejected.is_empty() || !rejections.is_empty();
            state.sent = session.sent();
            state.acknowledged = session.acknowledged();
            state.overdue = session.overdue();
            state.rejections += rejections.len() as u64;
            if changed {
                state.rejected = session.rejected().map(Rejected::from).collect();
            }
            proxy.seen = Instant::now();
        });
    }

    fn with(&self, change: impl FnOnce(&mut Proxy)) {
        if let Some(proxy) = self
            .proxies
            .lock()
            .get_mut(&self.key)
            .filter(|proxy| proxy.stream == self.stream)
        {
            change(proxy);
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.with(|proxy| {
            proxy.state.connected = false;
            proxy.seen = Instant::now();
        });
    }
}

impl From<&Rejection> for Rejected {
    fn from(rejection: &Rejection) -> Rejected {
        Rejected {
            kind: rejection.kind.to_string(),
            name: rejection.name.clone(),
            reason: rejection.reason.clone(),
        }
    }
}
