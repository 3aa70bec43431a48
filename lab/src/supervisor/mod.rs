//! The one process that stays while a lab is up: it makes the network, runs controllers and processes, and takes
//! everything down again.

mod backoff;
pub(crate) mod container;
mod control;
mod faults;
mod keeper;
pub(crate) mod kube;
mod mesh;
mod pod;
mod proxies;
mod ready;
pub(crate) mod runner;
mod seed;
mod services;
pub(crate) mod strays;
mod tokens;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::Directory;
use tokio_util::sync::CancellationToken;

use crate::cleanup;
use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::lock;
use crate::network::{Network, SharedNetwork};
use crate::options::LabOptions;
use crate::plan;
use crate::zone::SharedZone;
use pod::PodHost;
use runner::Runner;

pub use ready::Progress;
pub(crate) use seed::first_namespaces;

/// How long processes may take to end when the whole lab goes down.
const DOWN_GRACE: Duration = Duration::from_millis(500);

/// The parts that the control socket, the readiness check and the end of the lab share.
pub(crate) struct Lab {
    pub(crate) options: LabOptions,
    pub(crate) layout: Layout,
    pub(crate) network: SharedNetwork,
    pub(crate) store: Directory,
    pub(crate) pods: Arc<PodHost>,
    pub(crate) control_plane: Option<Runner>,
    pub(crate) kube_api: Option<kube::KubeApi>,
    pub(crate) nodes: BTreeMap<String, NodeProcesses>,
    /// The store's revision up to which the controllers have done their work.
    pub(crate) reconciled: Arc<AtomicU64>,
    pub(crate) faults: tokio::sync::Mutex<faults::Faults>,
}

/// The mesh's processes of one node.
pub(crate) struct NodeProcesses {
    pub(crate) agent: Runner,
    pub(crate) ztunnel: Runner,
}

/// Brings a lab up, keeps it until `stop` is cancelled, and takes it down. `progress` is told what happens until the
/// lab is ready. An error means that the lab could not come up, and that nothing is left of it.
pub(crate) async fn run(
    options: LabOptions,
    stop: CancellationToken,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), LabError> {
    let layout = Layout::new(&options.name)?;
    let lock = lock::take_patiently(&layout).await?;
    cleanup::clean(&layout).await?;
    layout.create()?;
    let mut outcome = live(options, &layout, &stop, progress).await;
    if outcome.is_err() && !stop.is_cancelled() {
        outcome = outcome.map_err(|error| keep_logs(&layout, error));
    }
    cleanup::remove(&layout).await?;
    lock.remove(&layout);
    outcome
}

/// Puts the logs of a lab that could not come up where they can still be read.
fn keep_logs(layout: &Layout, error: LabError) -> LabError {
    let kept = layout.kept_logs();
    if fs::rename(layout.logs(), &kept).is_err() {
        return error;
    }
    let note = format!(
        "\n  all logs are in {} until the next `up` or `down`",
        kept.display()
    );
    match error {
        LabError::Usage(text) => LabError::Usage(text + &note),
        LabError::Failed(text) => LabError::Failed(text + &note),
        LabError::Late(text) => LabError::Late(text + &note),
        other => other,
    }
}

async fn live(
    options: LabOptions,
    layout: &Layout,
    stop: &CancellationToken,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), LabError> {
    record_self(layout)?;
    progress(Progress::Step(format!("wiring {} nodes", options.nodes)));
    let mut network = Network::build(layout, &plan::nodes(options.nodes), options.ipv6).await?;
    if options.kubernetes {
        network.add_kube_api().await?;
    }
    let network = Arc::new(network);
    services::prepare_nat(&network).await?;
    let zone = SharedZone::default();
    let dns = services::serve_dns(&network, &zone)?;
    mesh::write_files(layout)?;

    let store = Directory::open(layout.objects()).map_err(other("opening the object store"))?;
    let objects = options.objects.clone();
    seed::plant(&store, &network, &options, objects).await?;
    let tokens = if options.mesh {
        Some(tokens::Tokens::new(layout, &store, &network, options.kubernetes).await?)
    } else {
        None
    };

    let kube_api = match &network.kube_api {
        Some(namespace) => Some(kube::KubeApi::start(layout, &options, namespace, &store).await?),
        None => None,
    };

    let pods = Arc::new(PodHost {
        layout: layout.clone(),
        network: network.clone(),
        store: store.clone(),
        ztctl: options.programs.ztctl.clone(),
        indices: Mutex::default(),
        views: Mutex::default(),
        spared: Mutex::default(),
    });
    let reconciled = Arc::new(AtomicU64::new(0));
    let mut lab = Lab {
        layout: layout.clone(),
        network: network.clone(),
        store: store.clone(),
        pods: pods.clone(),
        control_plane: None,
        kube_api,
        nodes: BTreeMap::new(),
        reconciled: reconciled.clone(),
        faults: tokio::sync::Mutex::default(),
        options,
    };
    let end = CancellationToken::new();
    let keeper = tokio::spawn(keeper::Keeper::new(store, pods, zone, reconciled).run(end.clone()));
    let renewal = tokens.map(|tokens| tokio::spawn(tokens.renew_for_ever()));
    let trimmer = tokio::spawn(trim_logs(layout.clone()));

    let outcome = serve(&mut lab, stop, progress).await;

    if let Err(error) = &outcome {
        tracing::error!(%error, "the lab ends");
    }
    for task in [renewal, Some(trimmer)].into_iter().flatten() {
        task.abort();
    }
    end.cancel();
    let mut ends = Vec::new();
    for runner in lab.control_plane.take().into_iter() {
        ends.push(runner.stop(DOWN_GRACE));
    }
    for (_, processes) in std::mem::take(&mut lab.nodes) {
        ends.push(processes.agent.stop(DOWN_GRACE));
        ends.push(processes.ztunnel.stop(DOWN_GRACE));
    }
    futures_util::future::join_all(ends).await;
    // The keeper ends every pod.
    let _ = keeper.await;
    if let Some(kube_api) = lab.kube_api.take() {
        kube_api.stop();
    }
    drop(dns);
    drop(lab);
    outcome
}

/// Starts the mesh, waits until all is ready, and answers requests until the lab is to end.
async fn serve(
    lab: &mut Lab,
    stop: &CancellationToken,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), LabError> {
    if lab.options.mesh {
        tokio::select! {
            started = start_mesh(lab, progress) => started?,
            () = stop.cancelled() => return Err(interrupted(lab)),
        }
    }
    let lab = &*lab;
    let listener = control::bind(&lab.layout)?;
    let requests = control::serve(listener, lab, stop);
    let runs = lab
        .nodes
        .iter()
        .map(|(name, processes)| (name.clone(), processes.ztunnel.watch()));
    let reports = proxies::report(lab.network.clone(), lab.store.clone(), runs.collect());
    let keep = async {
        tokio::select! {
            ready = ready::wait(lab, progress) => ready?,
            () = stop.cancelled() => return Err(interrupted(lab)),
        }
        progress(Progress::Ready);
        stop.cancelled().await;
        Ok(())
    };
    tokio::select! {
        outcome = keep => outcome,
        () = requests => Ok(()),
        () = reports => Ok(()),
    }
}

fn interrupted(lab: &Lab) -> LabError {
    LabError::Failed(format!(
        "the lab `{}` was told to end before it was ready",
        lab.layout.name()
    ))
}

async fn start_mesh(lab: &mut Lab, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), LabError> {
    progress(Progress::Step(
        "starting control plane, node agents and node proxies".to_owned(),
    ));
    lab.control_plane = Some(Runner::start(mesh::control_plane(
        &lab.layout,
        &lab.options,
        &lab.network,
    )));
    let root = tokens::wait_for_root(&lab.layout).await?;
    for node in &lab.network.nodes {
        let agent = Runner::start(mesh::node_agent(&lab.layout, &lab.options, node));
        // A proxy that finds nobody at its socket waits long before it tries again.
        ready::wait_for_path(&lab.layout.zds_socket(&node.plan.name)).await;
        let ztunnel = Runner::start(mesh::ztunnel(&lab.layout, &lab.options, node, root.clone()));
        spare(&lab.pods, &agent);
        spare(&lab.pods, &ztunnel);
        lab.nodes
            .insert(node.plan.name.clone(), NodeProcesses { agent, ztunnel });
    }
    Ok(())
}

/// Keeps a process of the mesh from being taken for one of a pod's, which it may visit.
fn spare(pods: &Arc<PodHost>, runner: &Runner) {
    let (pods, mut watch) = (pods.clone(), runner.watch());
    tokio::spawn(async move {
        loop {
            if let Some(pid) = watch.borrow_and_update().pid() {
                spare_process(&pods, pid);
            }
            if watch.changed().await.is_err() {
                return;
            }
        }
    });
}

fn spare_process(pods: &PodHost, pid: u32) {
    pods.spared
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .insert(pid);
}

fn record_self(layout: &Layout) -> Result<(), LabError> {
    let pid = std::process::id();
    let start_time = sys::process::start_time(pid).map_err(LabError::system("finding our own start time"))?;
    runner::write_record(&layout.pids().join(cleanup::SUPERVISOR), pid, start_time)
}

/// Empties logs that grow too long: they live in memory.
async fn trim_logs(layout: Layout) {
    const LOG_MAX: u64 = 64 * 1024 * 1024;
    const EVERY: Duration = Duration::from_secs(10);
    loop {
        tokio::time::sleep(EVERY).await;
        for directory in [layout.logs(), layout.logs().join("pods")] {
            let Ok(entries) = fs::read_dir(directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let long = entry
                    .metadata()
                    .is_ok_and(|metadata| metadata.is_file() && metadata.len() > LOG_MAX);
                if let (true, Ok(log)) = (long, File::options().write(true).open(entry.path())) {
                    tracing::warn!(log = %entry.path().display(), "emptied: it had grown past {LOG_MAX} bytes");
                    let _ = log.set_len(0);
                }
            }
        }
    }
}
