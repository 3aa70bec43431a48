//! Addresses of workloads that have a host name instead, looked up when a connection needs them.
//!
//! An answer is kept for as long as the DNS says, within [`SHORTEST`] and [`LONGEST`]; a failure for [`SHORTEST`].
//! Everybody who needs a name at the same time waits for the same look-up.

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use mesh::route::{Names, Resolution};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long an answer is kept at least.
pub(crate) const SHORTEST: Duration = Duration::from_secs(5);
/// How long an answer is kept at most.
pub(crate) const LONGEST: Duration = Duration::from_secs(300);
/// How long a look-up may take.
pub(crate) const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// The most names that are kept.
pub(crate) const MAX_NAMES: usize = 4096;
/// The most look-ups at a time.
pub(crate) const MAX_LOOKUPS: usize = 256;
/// The most addresses of a name that are kept.
const MAX_ADDRESSES: usize = 64;

/// What is known of host names. Clones share it.
#[derive(Clone)]
pub(crate) struct HostNames {
    inner: Arc<Inner>,
}

/// Who is asked for the addresses of a name: at least one, and until when they hold.
pub(crate) trait Lookup: Send + Sync {
    fn lookup(&self, name: Arc<str>) -> BoxFuture<'static, Result<(Vec<IpAddr>, Instant), String>>;
}

struct Inner {
    lookup: Box<dyn Lookup>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    known: HashMap<Arc<str>, Known>,
    asking: HashMap<Arc<str>, watch::Receiver<()>>,
}

struct Known {
    resolution: Resolution,
    until: Instant,
}

impl HostNames {
    /// Asks these name servers.
    pub(crate) fn new(name_servers: &[SocketAddr]) -> Self {
        Self::with(Dns::new(name_servers))
    }

    pub(crate) fn with(lookup: impl Lookup + 'static) -> Self {
        Self {
            inner: Arc::new(Inner {
                lookup: Box::new(lookup),
                table: Mutex::default(),
            }),
        }
    }

    /// Returns once the name has been looked up, whatever came of it: [`Names::resolved`] tells.
    pub(crate) async fn ask(&self, name: &Arc<str>) {
        let mut answered = {
            let mut table = self.inner.lock();
            if table.fresh(name, Instant::now()).is_some() {
                return;
            }
            match table.asking.get(name) {
                Some(answered) => answered.clone(),
                None if table.asking.len() >= MAX_LOOKUPS => {
                    let busy = format!("{MAX_LOOKUPS} other names are being looked up");
                    table.keep(name.clone(), Err(busy.into()), Instant::now() + SHORTEST);
                    return;
                }
                None => self.start(&mut table, name.clone()),
            }
        };
        // An error means that the look-up's task is gone, and the name has no answer.
        let _ = answered.changed().await;
    }

    /// Starts a look-up that goes on when those who wait for it have gone.
    fn start(&self, table: &mut Table, name: Arc<str>) -> watch::Receiver<()> {
        let (told, answered) = watch::channel(());
        table.asking.insert(name.clone(), answered.clone());
        let inner = self.inner.clone();
        tokio::spawn(async move {
            let looked = tokio::time::timeout(LOOKUP_DEADLINE, inner.lookup.lookup(name.clone())).await;
            let now = Instant::now();
            let (resolution, until) = match looked {
                Ok(Ok((addresses, until))) => {
                    let addresses: Arc<[IpAddr]> = addresses.into_iter().take(MAX_ADDRESSES).collect();
                    (Ok(addresses), until.clamp(now + SHORTEST, now + LONGEST))
                }
                Ok(Err(reason)) => (Err(reason.into()), now + SHORTEST),
                Err(_) => {
                    let late = format!("no answer within {} s", LOOKUP_DEADLINE.as_secs());
                    (Err(late.into()), now + SHORTEST)
                }
            };
            let mut table = inner.lock();
            table.asking.remove(&name);
            table.keep(name, resolution, until);
            drop(table);
            // Nobody need wait.
            let _ = told.send(());
        });
        answered
    }
}

impl Names for HostNames {
    fn resolved(&self, hostname: &str) -> Option<Resolution> {
        self.inner.lock().fresh(hostname, Instant::now())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn fresh(&self, name: &str, now: Instant) -> Option<Resolution> {
        let known = self.known.get(name).filter(|known| now < known.until)?;
        Some(known.resolution.clone())
    }

    fn keep(&mut self, name: Arc<str>, resolution: Resolution, until: Instant) {
        if self.known.len() >= MAX_NAMES && !self.known.contains_key(&name) {
            self.make_room(Instant::now());
        }
        self.known.insert(name, Known { resolution, until });
    }

    fn make_room(&mut self, now: Instant) {
        self.known.retain(|_, known| now < known.until);
        if self.known.len() >= MAX_NAMES {
            let next = self.known.iter().min_by_key(|(_, known)| known.until);
            if let Some(name) = next.map(|(name, _)| name.clone()) {
                self.known.remove(&name);
            }
        }
    }
}

/// The node's name servers.
struct Dns {
    resolver: Result<TokioResolver, String>,
}

impl Dns {
    fn new(name_servers: &[SocketAddr]) -> Self {
        let server = |address: &SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, connections.into())
        };
        let servers: Vec<_> = name_servers.iter().map(server).collect();
        if servers.is_empty() {
            let reason = "no name server is configured: name one in /etc/resolv.conf".to_owned();
            return Self {
                resolver: Err(reason),
            };
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = Duration::from_secs(2);
        options.attempts = 2;
        // What is kept, and for how long, is this module's business.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Self {
            resolver: builder.build().map_err(|error| error.to_string()),
        }
    }
}

impl Lookup for Dns {
    fn lookup(&self, name: Arc<str>) -> BoxFuture<'static, Result<(Vec<IpAddr>, Instant), String>> {
        let resolver = self.resolver.clone();
        Box::pin(async move {
            // The control plane's names are complete; the final dot keeps search domains out.
            let full = if name.ends_with('.') {
                name.to_string()
            } else {
                format!("{name}.")
            };
            let found = resolver?.lookup_ip(full).await;
            let found = found.map_err(|error| error.to_string())?;
            let addresses: Vec<IpAddr> = found.iter().collect();
            if addresses.is_empty() {
                return Err("it has no address".to_owned());
            }
            Ok((addresses, found.valid_until()))
        })
    }
}

#[cfg(test)]
mod tests;
