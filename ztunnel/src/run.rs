//! Putting the parts together, and ending in good order.

use crate::acceptor::Reserve;
use crate::config::{Config, Endpoint, ProxyMode};
use crate::connections::Connections;
use crate::context::Context;
use crate::endpoint_load::EndpointLoad;
use crate::enforcement::Enforcement;
use crate::host_names::HostNames;
use crate::http::{self, Pages, READINESS_PORT};
use crate::identities::{Identities, KeyStore};
use crate::local_file::LocalError;
use crate::manager::Manager;
use crate::pods::Pods;
use crate::readiness::{Readiness, Task};
use crate::state::MeshState;
use crate::{dedicated, self_inbound, sources};
use grpc_channel::{ChannelConfig, Token};
use hbone::budget::Budget;
use mesh::route::Rules;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use telemetry::{DroppedLines, FilterHandle, Metrics, MetricsSettings};
use tls::server_auth::RootSource;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// System: a listener or a signal handler.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Configuration: workloads, services and policies of a file or a setting.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// Configuration: the control plane's address or headers.
    #[error("the control plane's address cannot be used: {0}")]
    ControlPlane(#[from] grpc_channel::ConfigError),
}

/// Runs the proxy until SIGTERM or SIGINT, then drains.
pub async fn run(mut config: Config, log: FilterHandle, dropped_lines: DroppedLines) -> Result<(), RunError> {
    if let ProxyMode::Dedicated(_) = &config.mode {
        dedicated::settle_original_source(&mut config);
    }
    let readiness = Readiness::default();
    let snapshot_taken = readiness.task("pods from the node agent");

    let metrics = Metrics::new(MetricsSettings {
        component: "ztunnel".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..MetricsSettings::default()
    });
    metrics.observe_log(dropped_lines);
    metrics.observe_runtime(&tokio::runtime::Handle::current());
    let context = Arc::new(build(config, log, metrics)?);
    let config = &context.config;
    crate::trust::load_revocation_lists(&context);
    tokio::spawn(crate::trust::keep(context.clone()));
    let readiness_page = serve_pages(&context, readiness.clone())?;
    tokio::spawn(readiness.clone().beat());

    let discovery = config.discovery.as_ref();
    let discovery = discovery.map(|endpoint| channel(config, endpoint));
    let disk = sources::start(&context, discovery, &readiness).await?;
    tokio::spawn(crate::series::keep_few(context.clone()));
    tokio::spawn(crate::memory::keep_little(context.clone()));

    let stop = CancellationToken::new();
    let serving = serve(&context, snapshot_taken, stop.clone()).await?;
    let own = self_inbound::start(&context);
    info!(
        node = config.node_name,
        version = env!("CARGO_PKG_VERSION"),
        "ztunnel runs"
    );

    tokio::select! {
        signalled = wait_for_signal() => signalled?,
        () = context.quit.cancelled() => {}
    }
    let seconds = config.drain_deadline.as_secs();
    info!(
        open = context.connections.count(),
        seconds, "told to stop; open connections have the drain deadline"
    );
    // No longer ready; during an upgrade the port is the successor's from now on.
    readiness_page.cancel();
    context.identities.stopping();
    stop.cancel();
    let own_left = async {
        if let Some(own) = own {
            own.leave().await;
        }
    };
    if let (Err(error), ()) = tokio::join!(serving, own_left) {
        warn!(%error, "the drain failed");
    }
    if let Some(Err(error)) = match &disk {
        Some(disk) => Some(disk.write().await),
        None => None,
    } {
        warn!(%error, "cannot keep the latest state on disk");
    }
    Ok(())
}

/// Begins to serve whom the settings say.
async fn serve(
    context: &Arc<Context>,
    snapshot_taken: Task,
    stop: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let config = &context.config;
    Ok(match &config.mode {
        _ if !config.enable_proxy => {
            info!("ENABLE_PROXY is false: no connection is served");
            snapshot_taken.complete();
            tokio::spawn(async move { stop.cancelled().await })
        }
        ProxyMode::Shared => {
            let manager = Manager::new(context.clone(), snapshot_taken);
            tokio::spawn(manager.run(config.agent_socket.clone(), stop))
        }
        ProxyMode::Dedicated(workload) => {
            let proxy = dedicated::start(context.clone(), workload).await?;
            snapshot_taken.complete();
            tokio::spawn(dedicated::serve(proxy, stop))
        }
    })
}

pub(crate) fn build(config: Config, log: FilterHandle, metrics: Metrics) -> Result<Context, RunError> {
    let authority = config.authority.as_ref();
    let authority = authority.map(|endpoint| channel(&config, endpoint));
    let issuer = crate::authority::issuer(authority, &config.mode)?;
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_else(|error| {
        warn!(%error, "cannot read /etc/resolv.conf: names outside the mesh cannot be looked up for captured pods");
        String::new()
    });
    let name_servers = ::dns::name_servers(&resolv_conf);
    Ok(assemble(config, issuer, name_servers, log, metrics)?)
}

/// Everything shared, in its first state.
pub(crate) fn assemble(
    config: Config,
    issuer: Arc<dyn tls::Issuer>,
    name_servers: Vec<SocketAddr>,
    log: FilterHandle,
    metrics: Metrics,
) -> io::Result<Context> {
    let state = MeshState::default();
    let rules = rules(&config);
    let (connections, pods) = (Connections::default(), Pods::default());
    let enforcement = Enforcement {
        node: config.node_name.as_str().into(),
        mark: config.sockets.mark,
        state: state.clone(),
        connections: connections.clone(),
        pods: pods.clone(),
        rules: rules.clone(),
        metrics: metrics.clone(),
    };
    let trust = tls::Trust::new(config.trust.aliases.iter().cloned());
    let configs = tls::ConfigCache::with(trust, config.trust.compliance).speaking(config.trust.versions);
    let configs = Arc::new(configs);
    let life = config.certificate_life;
    let keys = config.trust.keys.as_deref();
    let keys = keys
        .map(|directory| KeyStore::open(directory, life))
        .transpose()?;
    Ok(Context {
        identities: Identities::kept_in(keys, issuer, life, configs.clone(), metrics.clone()),
        tls: configs,
        tunnels: Default::default(),
        buffers: Budget::new(crate::buffers::limit(config.max_buffered_bytes)),
        load: EndpointLoad::default(),
        host_names: HostNames::new(&name_servers),
        rules,
        name_servers,
        config,
        state,
        connections,
        pods,
        enforcement,
        reserve: Reserve::new()?,
        metrics,
        descriptions: Default::default(),
        log,
        quit: CancellationToken::new(),
    })
}

/// What of the settings decides where connections go.
fn rules(config: &Config) -> Rules {
    Rules {
        outbound_policy: config.outbound_policy,
        preferred_service_namespace: config.preferred_service_namespace.as_deref().map(Into::into),
        on_demand: config.on_demand && config.discovery.is_some(),
    }
}

fn channel(config: &Config, endpoint: &Endpoint) -> ChannelConfig {
    ChannelConfig {
        address: endpoint.address.clone(),
        roots: root_source(&endpoint.roots),
        alternative_name: endpoint.alternative_name.clone(),
        token: Token::from_setting(&config.token),
        cluster_id: config.cluster_id.clone(),
        headers: endpoint.headers.clone(),
        compliance: config.trust.compliance,
    }
}

/// `SYSTEM`, PEM text, or a path.
fn root_source(setting: &str) -> RootSource {
    match setting {
        "SYSTEM" => RootSource::System,
        text if text.contains("-----BEGIN") => RootSource::Pem(text.to_owned()),
        path => RootSource::Path(path.into()),
    }
}

/// Serves the pages for people and probes. Cancelling what this gives ends the page that says whether this process is
/// ready.
fn serve_pages(context: &Arc<Context>, readiness: Readiness) -> io::Result<CancellationToken> {
    let ipv6 = context.config.ipv6;
    let readiness_listener = http::bind(READINESS_PORT, ipv6, false)?;
    let metrics_listener = http::bind(context.config.metrics_port, ipv6, false)?;
    let admin_listener = http::bind(context.config.admin_port, ipv6, true)?;
    tokio::spawn(http::serve(metrics_listener, Pages::Metrics(context.clone())));
    tokio::spawn(http::serve(admin_listener, Pages::Admin(context.clone())));
    let stop = CancellationToken::new();
    let pages = Pages::Readiness(readiness, context.clone());
    http::serve_apart(readiness_listener, pages, stop.clone())?;
    Ok(stop)
}

async fn wait_for_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
