//! Who is connected, and how far each proxy is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::ResourceKind;
use super::node::{ProxyName, Role};
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
    /// Whether it serves its own pod alone.
    pub(crate) dedicated: bool,
    /// The version that it says it has.
    pub(crate) version: String,
    /// Since when it is connected, or away.
    #[serde(rename = "sinceSeconds")]
    pub(crate) since: u64,
    /// Everything up to this revision of the store was sent.
    pub(crate) sent: u64,
    /// Everything up to this revision of the store was sent and answered.
    pub(crate) acknowledged: u64,
    /// How many responses on this stream it has not answered in time.
    pub(crate) overdue: u64,
    /// How far each type is.
    pub(crate) types: BTreeMap<String, TypeState>,
    /// What it has not accepted.
    pub(crate) rejected: Vec<Rejected>,
    /// The generation of the roots that it has acknowledged, if it has asked for them.
    pub(crate) roots_acknowledged: Option<u64>,
    /// Why it does not accept the roots that it was sent last.
    pub(crate) roots_rejected: Option<String>,
    /// How often it has rejected something.
    pub(crate) rejections: u64,
    /// What it said when it rejected something last.
    #[serde(rename = "lastRejection")]
    pub(crate) last_rejection: Option<LastRejection>,
}

/// How far one type is on the proxy's last stream.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct TypeState {
    /// How many responses were sent.
    pub(crate) responses: u64,
    /// The revision of the store in the last response.
    pub(crate) sent: u64,
    /// The revision of the last response that was acknowledged.
    pub(crate) acknowledged: u64,
}

/// The last answer with an error.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LastRejection {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) text: String,
    #[serde(rename = "agoSeconds")]
    pub(crate) ago: u64,
    #[serde(skip)]
    at: Option<Instant>,
}

/// How many proxies are connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) by_version: BTreeMap<String, usize>,
    /// Those that have not acknowledged everything that they were sent.
    pub(crate) unacknowledged: usize,
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
    /// When it connected, or went away.
    turned: Instant,
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
    pub(crate) fn connect(&self, name: ProxyName, role: Role, version: String, stream: u64) -> Connected {
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
        let before = known.get(&key).map(|proxy| &proxy.state);
        let rejections = before.map_or(0, |state| state.rejections);
        let last_rejection = before.and_then(|state| state.last_rejection.clone());
        let state = ProxyState {
            node: name.node,
            namespace: name.namespace,
            pod: name.pod,
            connected: true,
            dedicated: role == Role::Dedicated,
            version,
            since: 0,
            sent: 0,
            acknowledged: 0,
            overdue: 0,
            types: BTreeMap::new(),
            rejected: Vec::new(),
            roots_acknowledged: None,
            roots_rejected: None,
            rejections,
            last_rejection,
        };
        let now = Instant::now();
        known.insert(
            key.clone(),
            Proxy {
                stream,
                seen: now,
                turned: now,
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
    pub(crate) fn list(&self, now: Instant) -> Vec<ProxyState> {
        let known = self.lock();
        let shown = known.values().map(|proxy| {
            let mut state = proxy.state.clone();
            state.since = now.saturating_duration_since(proxy.turned).as_secs();
            if let Some(last) = &mut state.last_rejection {
                last.ago = last
                    .at
                    .map_or(0, |at| now.saturating_duration_since(at).as_secs());
            }
            state
        });
        shown.collect()
    }

    /// How many are connected.
    pub(crate) fn count(&self) -> Count {
        let mut count = Count::default();
        let known = self.lock();
        for state in known
            .values()
            .map(|proxy| &proxy.state)
            .filter(|state| state.connected)
        {
            count.unacknowledged += usize::from(state.acknowledged < state.sent);
            match count.by_version.get_mut(&state.version) {
                Some(of_version) => *of_version += 1,
                None => drop(count.by_version.insert(state.version.clone(), 1)),
            }
        }
        count
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
            for kind in ResourceKind::ALL {
                let progress = session.progress(kind);
                if progress.responses == 0 {
                    continue;
                }
                let told = state.types.entry(kind.to_string()).or_default();
                *told = TypeState {
                    responses: progress.responses,
                    sent: progress.sent,
                    acknowledged: progress.acknowledged,
                };
            }
            if let Some((kind, text)) = session.refusal() {
                let at = session.progress(kind).refused_at;
                if state.last_rejection.as_ref().and_then(|last| last.at) != at {
                    state.last_rejection = Some(LastRejection {
                        kind: kind.to_string(),
                        text: text.to_owned(),
                        ago: 0,
                        at,
                    });
                }
            }
            state.rejections += rejections.len() as u64;
            if changed {
                state.rejected = session.rejected().map(Rejected::from).collect();
            }
            proxy.seen = Instant::now();
        });
    }

    /// Writes down which roots the proxy has in force, and what it does not accept of them.
    pub(crate) fn bundle(&self, acknowledged: Option<u64>, rejected: Option<&Rejection>) {
        self.with(|proxy| {
            proxy.state.roots_acknowledged = acknowledged;
            proxy.state.roots_rejected = rejected.map(|rejection| rejection.reason.clone());
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
            (proxy.seen, proxy.turned) = (Instant::now(), Instant::now());
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
