//! The parts put together.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ca::{IssueLog, JwtAuthenticator};
use object_store::{ObjectSource, ObjectWriter};
use tls::server_auth::Acceptor;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;

use crate::authority::{Host, NoAuthority, Pace, Places};
use crate::certificate::{self, ServerCertificateError};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::debug::{self, Debug, DebugSocketError};
use crate::events::{Events, Refusals};
use crate::http;
use crate::kubernetes::ca_reports::ReportStore;
use crate::kubernetes::root_bundle;
use crate::kubernetes::rotation_request;
use crate::kubernetes::token_review::TokenReviewer;
use crate::leadership::{self, Candidate, Leadership, Timing};
use crate::listener;
use crate::monitoring::{CountIssues, Monitoring};
use crate::pipeline::{self, Stopped, Told};
use crate::pods::Pods;
use crate::progress::Progress;
use crate::rotation::Rotations;
use crate::status::{Conditions, Tell};
use crate::xds::proxies::Proxies;
use crate::xds::service::{self, DiscoveryService};

/// How often idle connections are asked whether they live, and how long the answer may take. The question waits behind
/// what is on its way: when all proxies of a large mesh come at once, each may be given only some megabytes in this time.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(30));
/// How many requests a connection may have open: a stream and certificates in parallel.
const MAX_REQUESTS_PER_CONNECTION: u32 = 256;
/// How long clients may take to go once they are told to.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Accepted connections that the server has not begun with.
const ACCEPTED: usize = 64;

/// The program cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to sign with.
    #[error(transparent)]
    Authority(#[from] NoAuthority),
    /// Nobody could be authenticated.
    #[error("the token keys cannot be used: {0}")]
    TokenKeys(#[from] ca::FileError),
    /// Nobody could be authenticated either.
    #[error("callers cannot be authenticated: give --token-keys and --token-issuer, or --kubernetes")]
    Nobody,
    /// The server would have no certificate.
    #[error(transparent)]
    Certificate(#[from] ServerCertificateError),
    /// The address is taken, or not of this machine.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// It is not known where the Kubernetes API is.
    #[error(transparent)]
    Kubernetes(#[from] kube_source::ConfigError),
    /// The debug socket cannot be made.
    #[error(transparent)]
    DebugSocket(#[from] DebugSocketError),
    /// Compiling ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The server failed.
    #[error("the server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// A control plane that serves clients.
pub struct Running {
    address: SocketAddr,
    monitoring: SocketAddr,
    tasks: JoinSet<Result<(), Error>>,
    election: Option<StandingDown>,
}

/// What stands for election, and how to end it.
type StandingDown = (DropGuard, JoinHandle<()>);

impl Running {
    /// One that was stopped before it served.
    fn without_anything(
        address: SocketAddr,
        monitoring: SocketAddr,
        election: Option<StandingDown>,
    ) -> Running {
        Running {
            address,
            monitoring,
            tasks: JoinSet::new(),
            election,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers what a cluster asks over HTTP.
    pub fn monitoring_address(&self) -> SocketAddr {
        self.monitoring
    }

    /// Waits until it has stopped: after the token given to [`start`] was cancelled, or for an error.
    ///
    /// # Errors
    /// The first of its parts that failed.
    pub async fn stopped(mut self) -> Result<(), Error> {
        // Every part runs for ever, but the server, which ends when it is told to: the first to end is the end.
        let ended = self.tasks.join_next().await;
        self.tasks.shutdown().await;
        // Only once nothing is done as the leader any more.
        if let Some((stop, election)) = self.election.take() {
            drop(stop);
            // It bounds itself, and if it failed others wait until the lease is over.
            let _ = election.await;
        }
        match ended {
            Some(Ok(result)) => result,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => Ok(()),
        }
    }
}

/// Starts a control plane over a source of objects; returns once clients are served, which is when everything in
/// the source is compiled. What becomes of objects is written on them by `writer`, if there is one. Cancelling `shutdown`
/// ends it.
///
/// # Errors
/// When something it needs is not there; each error says what to do.
pub async fn start(
    config: Config,
    source: Arc<dyn ObjectSource>,
    writer: Option<Arc<dyn ObjectWriter>>,
    shutdown: CancellationToken,
) -> Result<Running, Error> {
    let cluster = config.kubernetes()?.map(|server| server.client());
    let pods = Pods::default();
    let authenticator = authenticator(&config, cluster.clone(), pods.clone())?;
    let failed = |source| Error::Listen {
        address: config.listen,
        source,
    };
    let listener = sys::socket::listen_here(config.listen, false).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let proxies = Proxies::default();
    let debug = Debug::new(proxies.clone(), config.log.clone());
    debug.follows(source.clone());
    let debug_socket = debug::listen(&config.debug_socket)?;
    let failed = |source| Error::Listen {
        address: config.monitoring_listen,
        source,
    };
    let monitoring_listener = sys::socket::listen_here(config.monitoring_listen, false).map_err(failed)?;
    let monitoring_address = monitoring_listener.local_addr().map_err(failed)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(forever(http::serve(debug_socket, debug.clone())));

    let (leadership, election) = stand_for_election(&config)?;
    let (metrics, progress) = (config.metrics(), Progress::default());
    let known_authority = Arc::new(OnceLock::new());
    let monitoring = Monitoring {
        metrics: metrics.clone(),
        debug: debug.clone(),
        proxies: proxies.clone(),
        progress: progress.clone(),
        leadership: leadership.clone(),
        source: source.clone(),
        authority: known_authority.clone(),
    };
    tasks.spawn(forever(http::serve(monitoring_listener, monitoring)));
    let clock = Clock::for_pause(config.ca_rotation_pause);
    if let Some(client) = &cluster {
        // First, so that a restart costs no time where the clock is right.
        clock.compare(client).await;
    }
    let places = Places {
        plugged_files: config.ca_plugged_dir.clone(),
        directory: config.ca_dir.clone(),
        cluster: cluster
            .clone()
            .map(|client| (client, config.pod_namespace.clone())),
        pace: Pace::default(),
        longest_life: config.max_certificate_life(),
        clock: clock.clone(),
    };
    let host = tokio::select! {
        host = Host::open(places, leadership.clone()) => Arc::new(host?),
        () = shutdown.cancelled() => return Ok(Running::without_anything(address, monitoring_address, election)),
    };
    let authority = host.authority.clone();
    // It is set once.
    let _ = known_authority.set(authority.clone());
    let exchanges = authority.exchanges();
    let own = certificate::issue(&authority, &config.server_names, &clock)?;
    let not_before = own.not_before;
    let acceptor = Arc::new(Acceptor::new(own.identity));
    let (first, compiled) = oneshot::channel();
    // Where there is no Kubernetes API there is nowhere to write Events to.
    let events = cluster
        .as_ref()
        .filter(|_| config.write_events)
        .map(|_| Events::default());
    let tell = Tell {
        writer,
        events: events.clone(),
        metrics: metrics.clone(),
    };
    let is_told = tell.writer.is_some() || tell.events.is_some();
    let conditions = is_told.then(|| Conditions::new(tell.writer.is_some()));
    let told = Told {
        pods: pods.clone(),
        conditions: conditions.clone(),
        events: events.clone(),
        progress,
        metrics: metrics.clone(),
    };
    // Before everything is compiled: it may be the settings of the mesh that are waited for.
    if let (Some(client), Some(events)) = (cluster.clone(), events.clone()) {
        let instance = config.pod_name.clone();
        tasks.spawn(forever(events.write(client, instance, metrics.clone())));
    }
    let settings = (config.compile_settings(), config.mesh_settings());
    let compile = pipeline::run(source, settings, told, first);
    tasks.spawn(async { Ok(compile.await?) });
    let (views, fixed) = tokio::select! {
        views = compiled => views.map_err(|_| Stopped::Source)?,
        // Nothing is served yet, so there is nothing to end in good order.
        () = shutdown.cancelled() => return Ok(Running::without_anything(address, monitoring_address, election)),
    };

    let issues = Arc::new(IssueLog::default());
    debug.lists(issues.clone(), clock.clone());
    let pod = (&*config.pod_namespace, &*config.pod_name);
    let telling = clock::Tell::new(events.clone(), pod, metrics.clone());
    let (keep, forgetting) = (clock.clone(), issues.clone());
    let forget = move |ended| forgetting.forget_expired(ended);
    tasks.spawn(forever(keep.keep(cluster.clone(), telling, forget)));
    let roots = tokio::select! {
        roots = rotations(&config, &fixed.trust_domain, &host, cluster.clone(), (issues.clone(), clock.clone())) => roots?,
        () = shutdown.cancelled() => return Ok(Running::without_anything(address, monitoring_address, election)),
    };
    if let Some(roots) = &roots {
        debug.answers_for(roots.clone());
    }
    if let Some(conditions) = conditions {
        let write = move || conditions.clone().write(tell.clone());
        tasks.spawn(forever(leadership.clone().while_leading(write)));
    }
    tasks.spawn(forever(host.clone().follow()));
    if let (Some(client), Some(roots)) = (&cluster, &roots) {
        let (client, namespace, roots) = (client.clone(), config.pod_namespace.clone(), roots.clone());
        let take = move || rotation_request::keep(client.clone(), namespace.clone(), roots.clone());
        tasks.spawn(forever(leadership.clone().while_leading(take)));
    }
    if let Some(client) = cluster {
        let told = Arc::new(root_bundle::Told {
            authority: authority.clone(),
            revocation_list: host.revocation_list(),
        });
        let tell = move || root_bundle::keep(client.clone(), told.clone());
        tasks.spawn(forever(leadership.clone().while_leading(tell)));
    }
    let (connections, accepted) = mpsc::channel(ACCEPTED);
    tasks.spawn(forever(certificate::renew(
        authority.clone(),
        config.server_names.clone(),
        acceptor.clone(),
        clock,
        not_before,
        exchanges,
    )));
    let discovery = DiscoveryService::new(service::Settings {
        views: views.clone(),
        dry_run_policies: config.dry_run_policies,
        max_response: config.max_response_bytes,
        authenticator: authenticator.clone(),
        trusted_node_accounts: config.trusted_node_accounts.clone(),
        pods: Arc::new(pods.clone()),
        trust_domain: fixed.trust_domain.clone(),
        proxies,
        events: events.clone(),
        metrics: metrics.clone(),
        roots: roots
            .clone()
            .map(|roots| Arc::new(roots) as Arc<dyn service::Roots>),
        shutdown: shutdown.clone(),
    });
    let signing = ca::ServiceConfig {
        trust_domain: fixed.trust_domain,
        trusted_node_accounts: config.trusted_node_accounts.clone(),
        default_ttl: config.certificate_life,
        max_ttl: config.max_certificate_life(),
    };
    let mut signing = ca::Service::new(authority, authenticator, Arc::new(pods), signing)
        .with_observer(Arc::new(CountIssues(metrics)))
        .with_observer(issues);
    if let Some(events) = events {
        signing = signing.with_observer(Arc::new(Refusals(events)));
    }
    let leaving = roots.clone();
    if let Some(roots) = roots {
        signing = signing.with_observer(Arc::new(roots.clone()));
        tasks.spawn(forever(roots.run(move || leadership.is_leader())));
    }
    let signing = signing.into_server();
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(MAX_REQUESTS_PER_CONNECTION)
        .add_service(listener::Noting(discovery))
        .add_service(listener::Noting(signing));
    debug.ready(views);
    tracing::info!(%address, names = ?config.server_names, "serving xDS and CA");
    tokio::spawn(listener::accept(
        listener,
        acceptor,
        connections,
        listener::Limits::default(),
    ));
    tasks.spawn(async move {
        let serving = server
            .serve_with_incoming_shutdown(ReceiverStream::new(accepted), shutdown.clone().cancelled_owned());
        let too_late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(STOP_DEADLINE).await;
        };
        tokio::select! {
            result = serving => {
                result?;
                if let Some(roots) = leaving {
                    roots.leave().await;
                }
                Ok(())
            }
            () = too_late => {
                tracing::warn!("clients did not go in time; their connections are cut");
                Ok(())
            }
        }
    });
    Ok(Running {
        address,
        monitoring: monitoring_address,
        tasks,
        election,
    })
}

/// The rotation of a root of our own.
async fn rotations(
    config: &Config,
    trust_domain: &str,
    host: &Host,
    cluster: Option<kube::Client>,
    (issues, clock): (Arc<IssueLog>, Clock),
) -> Result<Option<Rotations>, NoAuthority> {
    match &host.kept {
        Some(kept) => {
            let reports =
                cluster.map(|client| ReportStore::new(client, &config.pod_namespace, &config.pod_name));
            let settings = config.authority_settings(trust_domain, issues, clock);
            Ok(Some(Rotations::open(kept.clone(), settings, reports).await?))
        }
        None => Ok(None),
    }
}

/// Who says whose a token is: keys in a file, where there is one, otherwise the Kubernetes API.
fn authenticator(
    config: &Config,
    cluster: Option<kube::Client>,
    pods: Pods,
) -> Result<Arc<dyn ca::Authenticator>, Error> {
    match (&config.token_keys, &config.token_issuer, cluster) {
        (Some(keys), Some(issuer), _) => Ok(Arc::new(JwtAuthenticator::new(
            keys,
            issuer,
            &config.token_audience,
        )?)),
        (_, _, Some(client)) => Ok(Arc::new(TokenReviewer::new(client, &config.token_audience, pods))),
        _ => Err(Error::Nobody),
    }
}

/// Whether this replica leads; where there may be others, with what finds that out.
fn stand_for_election(config: &Config) -> Result<(Leadership, Option<StandingDown>), Error> {
    let server = match config.kubernetes()? {
        Some(server) if config.leader_election => server,
        _ => return Ok((Leadership::always(), None)),
    };
    let candidate = Candidate {
        client: server.client(),
        pod: config.pod_name.clone(),
        namespace: config.pod_namespace.clone(),
        timing: Timing::default(),
    };
    let stop = CancellationToken::new();
    let (leadership, election) = leadership::elect(candidate, stop.clone());
    Ok((leadership, Some((stop.drop_guard(), tokio::spawn(election)))))
}

/// For parts that end only when they are dropped.
async fn forever(part: impl Future<Output = ()>) -> Result<(), Error> {
    part.await;
    Ok(())
}
