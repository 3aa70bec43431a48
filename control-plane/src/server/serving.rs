//! Signing, and serving clients.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ca::Authority;
use tls::server_auth::Acceptor;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use super::doors::Door;
use super::shared::Shared;
use super::{Compiled, Error, Tasks, forever};
use crate::authority::{Host, Pace, Places};
use crate::events::Refusals;
use crate::monitoring::CountIssues;
use crate::rotation::Rotations;
use crate::xds::service::{self, DiscoveryService};
use crate::{certificate, listener};

/// How often idle connections are asked whether they live, and how long the answer may take. The question waits behind
/// what is on its way: when all proxies of a large mesh come at once, each may be given only some megabytes in this time.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(30));
/// How many requests a connection may have open: a stream and certificates in parallel.
const MAX_REQUESTS_PER_CONNECTION: u32 = 256;
/// How long clients may take to go once they are told to.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Accepted connections that the server has not begun with.
const ACCEPTED: usize = 64;

/// What signs, with the certificate by which this server is known.
pub(super) struct Signer {
    pub(super) host: Arc<Host>,
    acceptor: Arc<Acceptor>,
    not_before: SystemTime,
    /// Counts exchanges of the root since before the certificate was made.
    exchanges: watch::Receiver<u64>,
}

impl Signer {
    /// Waits for it, where another replica makes it.
    pub(super) async fn open(shared: &Shared) -> Result<Signer, Error> {
        let config = &shared.config;
        let cluster = shared.cluster.clone();
        let places = Places {
            plugged_files: config.ca_plugged_dir.clone(),
            directory: config.ca_dir.clone(),
            cluster: cluster.map(|client| (client, config.pod_namespace.clone())),
            pace: Pace::default(),
            longest_life: config.max_certificate_life(),
            clock: shared.clock.clone(),
        };
        let host = Arc::new(Host::open(places, shared.leadership.clone()).await?);
        let exchanges = host.authority.exchanges();
        let own = certificate::issue(&host.authority, &config.server_names, &shared.clock)?;
        Ok(Signer {
            host,
            acceptor: Arc::new(Acceptor::new(own.identity)),
            not_before: own.not_before,
            exchanges,
        })
    }

    pub(super) fn authority(&self) -> &Arc<Authority> {
        &self.host.authority
    }
}

/// Serves clients from now on.
pub(super) fn serve(
    tasks: &mut Tasks,
    shared: &Shared,
    clients: Door,
    signer: Signer,
    roots: Option<Rotations>,
    compiled: Compiled,
) {
    let config = &shared.config;
    let discovery = discovery(shared, &compiled, roots.as_ref());
    let signing = signing(shared, &compiled, &signer, roots.as_ref());
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(MAX_REQUESTS_PER_CONNECTION)
        .add_service(listener::Noting(discovery))
        .add_service(listener::Noting(signing.into_server()));
    tasks.spawn(forever(certificate::renew(
        signer.authority().clone(),
        config.server_names.clone(),
        signer.acceptor.clone(),
        shared.clock.clone(),
        signer.not_before,
        signer.exchanges,
    )));
    if let Some(roots) = roots.clone() {
        let leadership = shared.leadership.clone();
        tasks.spawn(forever(roots.run(move || leadership.is_leader())));
    }
    shared.debug.ready(compiled.views);
    tracing::info!(address = %clients.address, names = ?config.server_names, "serving xDS and CA");
    let (connections, accepted) = mpsc::channel(ACCEPTED);
    let limits = listener::Limits::default();
    tokio::spawn(listener::accept(
        clients.listener,
        signer.acceptor,
        connections,
        limits,
    ));
    let shutdown = shared.shutdown.clone();
    tasks.spawn(async move {
        let accepted = ReceiverStream::new(accepted);
        let serving = server.serve_with_incoming_shutdown(accepted, shutdown.clone().cancelled_owned());
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(STOP_DEADLINE).await;
        };
        tokio::select! {
            result = serving => {
                result?;
                if let Some(roots) = roots {
                    roots.leave().await;
                }
            }
            () = too_late => tracing::warn!("clients did not go in time; their connections are cut"),
        }
        Ok(())
    });
}

fn discovery(shared: &Shared, compiled: &Compiled, roots: Option<&Rotations>) -> DiscoveryService {
    let config = &shared.config;
    let roots = roots.map(|roots| Arc::new(roots.clone()) as Arc<dyn service::Roots>);
    DiscoveryService::new(service::Settings {
        views: compiled.views.clone(),
        dry_run_policies: config.dry_run_policies,
        max_response: config.max_response_bytes,
        authenticator: shared.authenticator.clone(),
        trusted_node_accounts: config.trusted_node_accounts.clone(),
        pods: shared.pods.clone(),
        trust_domain: compiled.fixed.trust_domain.clone(),
        proxies: shared.proxies.clone(),
        events: shared.events.clone(),
        metrics: shared.metrics.clone(),
        roots,
        standstill: shared.standstill.clone(),
        shutdown: shared.shutdown.clone(),
    })
}

fn signing(shared: &Shared, compiled: &Compiled, signer: &Signer, roots: Option<&Rotations>) -> ca::Service {
    let clock = shared.clock.clone();
    let config = &shared.config;
    let limits = ca::ServiceConfig {
        trust_domain: compiled.fixed.trust_domain.clone(),
        trusted_node_accounts: config.trusted_node_accounts.clone(),
        default_ttl: config.certificate_life,
        max_ttl: config.max_certificate_life(),
    };
    let (authority, pods) = (signer.authority().clone(), Arc::new(shared.pods.clone()));
    let mut signing = ca::Service::new(authority, shared.authenticator.clone(), pods, limits)
        .with_clock(move || clock.now())
        .with_observer(Arc::new(CountIssues(shared.metrics.clone())))
        .with_observer(shared.issues.clone());
    if let Some(events) = &shared.events {
        signing = signing.with_observer(Arc::new(Refusals(events.clone())));
    }
    if let Some(roots) = roots {
        signing = signing.with_observer(Arc::new(roots.clone()));
    }
    signing
}
