//! Where the state comes from: discovery, the disk while discovery does not answer, a file.

use crate::config::Config;
use crate::context::Context;
use crate::disk::{Disk, Loaded, Scope};
use crate::local_file::{Local, LocalError};
use crate::on_demand::OnDemand;
use crate::readiness::{Readiness, Task};
use crate::state::{Kinds, MeshState, StateHandler, Writer, restored};
use crate::trust_bundle::TrustBundles;
use grpc_channel::ChannelConfig;
use proto::origin::TRUST_BUNDLE_TYPE_URL;
use proto::security::AUTHORIZATION_TYPE_URL;
use proto::workload::ADDRESS_TYPE_URL;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tracing::{info, warn};

/// How long a start waits for the control plane before it uses what is on disk. Connections wait a little longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What readiness says it waits for.
const STATE: &str = "state from the control plane";

/// Names and versions by type, as discovery is told them.
type Held = Vec<(String, String, String)>;

/// Begins to feed the context's state, from discovery where there is a `channel` to it. Gives the disk that is to be
/// written a last time at the end.
///
/// # Errors
/// When the local state cannot be used.
pub(crate) async fn start(
    context: &Arc<Context>,
    channel: Option<ChannelConfig>,
    readiness: &Readiness,
) -> Result<Option<Disk>, LocalError> {
    let (config, state) = (&context.config, &context.state);
    tokio::spawn(complete_when_known(state.clone(), readiness.task(STATE)));
    let writer = Writer::new(state.clone(), context.enforcement.clone());
    if let Some(source) = config.local.clone() {
        let local = Local::start(source, &writer, channel.is_none()).await?;
        tokio::spawn(local.follow(writer.clone()));
    }
    let Some(channel) = channel else {
        return Ok(None);
    };
    let on_demand = if config.on_demand {
        let (asker, demands) = xds_client::on_demand(ADDRESS_TYPE_URL);
        state.ask_through(OnDemand::new(asker, &config.cluster_id));
        // There is no moment at which all is known; what is not is asked for.
        writer.write(Vec::new(), Kinds::ADDRESSES).await;
        Some(demands)
    } else {
        None
    };
    let (disk, held) = match &config.state_directory {
        Some(directory) => {
            let (disk, held) = restore(config, directory, &writer, state, readiness).await;
            tokio::spawn(disk.clone().run());
            (Some(disk), held)
        }
        None => (None, Held::new()),
    };
    let discovery = xds_client::ClientConfig {
        types: vec![ADDRESS_TYPE_URL.into(), AUTHORIZATION_TYPE_URL.into()],
        offered_types: vec![TRUST_BUNDLE_TYPE_URL.into()],
        on_demand,
        held,
        node: crate::node::describe(config),
        channel,
        observer: Some(Arc::new(crate::node::Observer(context.metrics.clone()))),
    };
    let handler = StateHandler::new(writer, disk.clone(), readiness.clone())
        .with_bundles(TrustBundles::new(context.clone()));
    let (status, _) = watch::channel(xds_client::Status::default());
    tokio::spawn(async move { xds_client::run(discovery, handler, status).await });
    Ok(disk)
}

/// Opens the disk and puts what is there into the snapshot. Nothing is decided by it before discovery has answered, or
/// has failed to for [`PATIENCE`].
async fn restore(
    config: &Config,
    directory: &Path,
    writer: &Writer,
    state: &MeshState,
    readiness: &Readiness,
) -> (Disk, Held) {
    let scope = Scope {
        trust_domain: config.trust_domain.clone(),
        cluster: config.cluster_id.clone(),
        network: config.network.clone(),
        node: config.node_name.clone(),
    };
    let (disk, loaded) = Disk::open(directory, scope, config.state_max_age);
    let Some(Loaded {
        written,
        addresses,
        policies,
    }) = loaded
    else {
        return (disk, Held::new());
    };
    let (changes, held) = restored(addresses, policies);
    writer.write(changes, Kinds::NONE).await;
    tokio::spawn(fall_back(
        state.clone(),
        writer.clone(),
        written,
        readiness.clone(),
    ));
    (disk, held)
}

async fn fall_back(state: MeshState, writer: Writer, written: SystemTime, readiness: Readiness) {
    let mut progress = state.progress();
    let confirmed = progress.wait_for(|progress| progress.confirmed == Kinds::ALL);
    if tokio::time::timeout(PATIENCE, confirmed).await.is_ok() {
        return;
    }
    writer.fall_back_to_disk(written).await;
    let age = written.elapsed().unwrap_or_default().as_secs();
    warn!(
        age_seconds = age,
        "the control plane does not answer; workloads, services and policies from disk are in force"
    );
    let note = format!(
        "workloads, services and policies are from disk, {age} s old at the start: the control plane has not answered since"
    );
    readiness.note(STATE, Some(note));
    // The state lives as long as the process.
    let _ = progress
        .wait_for(|progress| progress.confirmed == Kinds::ALL)
        .await;
    readiness.note(STATE, None);
    info!("the control plane has answered; its workloads, services and policies are in force");
}

async fn complete_when_known(state: MeshState, task: Task) {
    let mut progress = state.progress();
    // The state lives as long as the process.
    let _ = progress.wait_for(|progress| progress.is_synced()).await;
    task.complete();
}
