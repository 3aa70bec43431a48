//! The parts put together.

mod doors;
mod serving;
mod shared;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use object_store::{ObjectSource, ObjectWriter};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::doors::Doors;
use self::serving::Signer;
use self::shared::Shared;
use crate::authority::NoAuthority;
use crate::certificate::ServerCertificateError;
use crate::clusters::{self, Others};
use crate::config::Config;
use crate::debug::DebugSocketError;
use crate::kubernetes::ca_reports::ReportStore;
use crate::kubernetes::{root_bundle, rotation_request};
use crate::leadership::{self, Candidate, Leadership, Timing};
use crate::mesh_settings::Fixed;
use crate::pipeline::{self, Stopped, Told};
use crate::rotation::Rotations;
use crate::status::{Conditions, Tell};
use crate::xds::history::History;
use crate::{clock, http};

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
    tasks: Tasks,
    election: Option<StandingDown>,
}

/// Parts that run: none ends before the program does, but by an error.
type Tasks = JoinSet<Result<(), Error>>;

/// What stands for election, and how to end it.
type StandingDown = (DropGuard, JoinHandle<()>);

impl Running {
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
    let doors = Doors::open(&config)?;
    let (address, monitoring) = (doors.clients.address, doors.monitoring.address);
    let (leadership, election) = stand_for_election(&config)?;
    let shared = Shared::new(config, leadership, shutdown.clone())?;
    let tasks = tokio::select! {
        tasks = begin(shared, doors, source, writer) => tasks?,
        // Nothing is served yet, so there is nothing to end in good order.
        () = shutdown.cancelled() => Tasks::new(),
    };
    Ok(Running {
        address,
        monitoring,
        tasks,
        election,
    })
}

/// Begins one part after the other, each when it has what it needs, until clients are served.
async fn begin(
    shared: Shared,
    doors: Doors,
    source: Arc<dyn ObjectSource>,
    writer: Option<Arc<dyn ObjectWriter>>,
) -> Result<Tasks, Error> {
    let mut tasks = Tasks::new();
    shared.debug.follows(source.clone());
    tasks.spawn(forever(http::serve(doors.debug, shared.debug.clone())));
    let monitoring = shared.monitoring(source.clone());
    let known_authority = monitoring.authority.clone();
    tasks.spawn(forever(http::serve(doors.monitoring.listener, monitoring)));
    if let Some(client) = &shared.cluster {
        // First, so that a restart costs no time where the clock is right.
        shared.clock.compare(client).await;
    }
    let signer = Signer::open(&shared).await?;
    // It is set once.
    let _ = known_authority.set(signer.authority().clone());
    let tell = Tell {
        writer,
        events: shared.events.clone(),
        metrics: shared.metrics.clone(),
    };
    let is_told = tell.writer.is_some() || tell.events.is_some();
    let conditions = is_told.then(|| Conditions::new(tell.writer.is_some()));
    write_events(&mut tasks, &shared);
    let compiled = compile(&mut tasks, &shared, source, conditions.clone()).await?;
    keep_time(&mut tasks, &shared);
    let roots = rotations(&shared, &compiled.fixed, &signer).await?;
    if let Some(roots) = &roots {
        shared.debug.answers_for(roots.clone());
    }
    if let Some(conditions) = conditions {
        let write = move || conditions.clone().write(tell.clone());
        tasks.spawn(forever(shared.leadership.clone().while_leading(write)));
    }
    tasks.spawn(forever(signer.host.clone().follow()));
    lead(&mut tasks, &shared, &signer, roots.as_ref());
    serving::serve(&mut tasks, &shared, doors.clients, signer, roots, compiled);
    Ok(tasks)
}

/// What there is once everything is compiled: the views, and the settings that hold as long as the program runs.
struct Compiled {
    views: watch::Receiver<Arc<History>>,
    fixed: Fixed,
}

/// Before everything is compiled: it may be the settings of the mesh that are waited for.
fn write_events(tasks: &mut Tasks, shared: &Shared) {
    if let (Some(client), Some(events)) = (shared.cluster.clone(), shared.events.clone()) {
        let instance = shared.config.pod_name.clone();
        tasks.spawn(forever(events.write(client, instance, shared.metrics.clone())));
    }
}

/// Follows the source; returns once everything in it is compiled.
async fn compile(
    tasks: &mut Tasks,
    shared: &Shared,
    source: Arc<dyn ObjectSource>,
    conditions: Option<Conditions>,
) -> Result<Compiled, Error> {
    let told = Told {
        pods: shared.pods.clone(),
        conditions,
        events: shared.events.clone(),
        progress: shared.progress.clone(),
        standstill: shared.standstill.clone(),
        metrics: shared.metrics.clone(),
    };
    let settings = (shared.config.compile_settings(), shared.config.mesh_settings());
    let (first, compiled) = oneshot::channel();
    let others = follow_clusters(tasks, shared);
    let compile = pipeline::run(source, others, settings, told, first);
    tasks.spawn(async { Ok(compile.await?) });
    tasks.spawn(forever(shared.standstill.clone().watch()));
    let (views, fixed) = compiled.await.map_err(|_| Stopped::Source)?;
    Ok(Compiled { views, fixed })
}

/// Follows other clusters, where that is wanted.
fn follow_clusters(tasks: &mut Tasks, shared: &Shared) -> Option<Others> {
    let (client, events) = (shared.cluster.as_ref(), shared.events.as_ref());
    let (follower, others) = clusters::follower(&shared.config, client, events)?;
    shared.debug.lists_clusters(others.board.clone());
    tasks.spawn(forever(follower.follow()));
    Some(others)
}

/// Holds the clock against others, and lists what was signed by it.
fn keep_time(tasks: &mut Tasks, shared: &Shared) {
    shared.debug.lists(shared.issues.clone(), shared.clock.clone());
    let pod = (&*shared.config.pod_namespace, &*shared.config.pod_name);
    let telling = clock::Tell::new(shared.events.clone(), pod, shared.metrics.clone());
    let (clock, issues) = (shared.clock.clone(), shared.issues.clone());
    let forget = move |ended| issues.forget_expired(ended);
    tasks.spawn(forever(clock.keep(shared.cluster.clone(), telling, forget)));
}

/// What over a Kubernetes API only one replica does, beside writing status.
fn lead(tasks: &mut Tasks, shared: &Shared, signer: &Signer, roots: Option<&Rotations>) {
    let Some(client) = &shared.cluster else {
        return;
    };
    if let Some(roots) = roots {
        let (client, namespace) = (client.clone(), shared.config.pod_namespace.clone());
        let roots = roots.clone();
        let take = move || rotation_request::keep(client.clone(), namespace.clone(), roots.clone());
        tasks.spawn(forever(shared.leadership.clone().while_leading(take)));
    }
    let told = Arc::new(root_bundle::Told {
        authority: signer.authority().clone(),
        revocation_list: signer.host.revocation_list(),
    });
    let client = client.clone();
    let tell = move || root_bundle::keep(client.clone(), told.clone());
    tasks.spawn(forever(shared.leadership.clone().while_leading(tell)));
}

/// The rotation of a root of our own.
async fn rotations(
    shared: &Shared,
    fixed: &Fixed,
    signer: &Signer,
) -> Result<Option<Rotations>, NoAuthority> {
    let Some(kept) = &signer.host.kept else {
        return Ok(None);
    };
    let config = &shared.config;
    let reports = shared
        .cluster
        .clone()
        .map(|client| ReportStore::new(client, &config.pod_namespace, &config.pod_name));
    let (issues, clock) = (shared.issues.clone(), shared.clock.clone());
    let settings = config.authority_settings(&fixed.trust_domain, issues, clock);
    Ok(Some(Rotations::open(kept.clone(), settings, reports).await?))
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
