//! Answers the command line.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use objects::{Kind, ObjectKey, REDIRECTION_ANNOTATION};
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::mesh;
use super::runner::{ReadyCheck, RunState, Runner};
use super::{Lab, ready, spare_process};
use crate::control::{Answer, Request, RestartHow, read_line, write_line};
use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::network::NodeNetwork;
use crate::status::{LabStatus, NodeView, ProcessView};

/// Questions answered at once.
const CALLERS_MAX: usize = 64;
/// How long a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a process may take to be ready again.
const BACK_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn bind(layout: &Layout) -> Result<UnixListener, LabError> {
    let path = layout.supervisor_socket();
    let listener =
        UnixListener::bind(&path).map_err(LabError::system(format!("listening on {}", path.display())))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(LabError::system(format!("protecting {}", path.display())))?;
    Ok(listener)
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: UnixListener, lab: &Lab, stop: &CancellationToken) {
    let mut callers = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if callers.len() < CALLERS_MAX => match accepted {
                Ok((connection, _)) => callers.push(answer(connection, lab, stop)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the lab's socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(()) = callers.next() => {}
        }
    }
}

async fn answer(connection: UnixStream, lab: &Lab, stop: &CancellationToken) {
    let (reader, mut writer) = connection.into_split();
    let mut reader = BufReader::new(reader);
    let Ok(Ok(request)) = tokio::time::timeout(PATIENCE, read_line::<Request>(&mut reader)).await else {
        return;
    };
    let outcome = match request {
        Request::Status => Ok(Answer::Status {
            status: Box::new(status(lab).await),
        }),
        Request::Restart { target, how } if target == "kube-api" => {
            restart_kube_api(lab, how).await.map(|()| Answer::Done)
        }
        Request::Restart { target, how } => restart(lab, &target, how).await.map(|()| Answer::Done),
        Request::Fault(request) => lab
            .faults
            .lock()
            .await
            .apply(&lab.network, &request)
            .await
            .map(|()| Answer::Done),
        Request::Down => {
            stop.cancel();
            Ok(Answer::Done)
        }
    };
    let answer = outcome.unwrap_or_else(|error| Answer::Refused {
        text: error.to_string(),
        exit_code: error.exit_code(),
    });
    // The caller may be gone.
    let _ = write_line(&mut writer, &answer).await;
}

async fn status(lab: &Lab) -> LabStatus {
    let layout = &lab.layout;
    let mut nodes = Vec::new();
    for node in &lab.network.nodes {
        let name = &node.plan.name;
        let mut addresses = vec![IpAddr::V4(node.plan.fabric_v4())];
        if lab.network.ipv6() {
            addresses.push(IpAddr::V6(node.plan.fabric_v6()));
        }
        let (range, length) = node.plan.pod_range_v4();
        let processes = lab.nodes.get(name);
        let namespace = layout.node_namespace(name);
        let (ztunnel_ready, agent_ready) = match processes {
            Some(_) => tokio::join!(mesh::proxy_is_ready(node), ready::agent_answers(layout, name)),
            None => (false, false),
        };
        nodes.push(NodeView {
            name: name.clone(),
            network_namespace: namespace.clone(),
            addresses,
            pod_range: format!("{range}/{length}"),
            ztunnel: view(
                processes.map(|both| &both.ztunnel),
                namespace.clone(),
                ztunnel_ready,
            ),
            node_agent: view(processes.map(|both| &both.agent), namespace, agent_ready),
        });
    }
    let mut pods: Vec<_> = lab.pods.views().values().cloned().collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let store = lab.store.clone();
    let objects = tokio::task::spawn_blocking(move || store.list()).await;
    if let Ok(Ok((_, objects))) = objects {
        for pod in &mut pods {
            let key = ObjectKey::new(Kind::Pod, &pod.namespace, &pod.name);
            let object = objects.iter().find(|object| object.key() == key);
            let annotation =
                object.and_then(|object| object.metadata.annotations.get(REDIRECTION_ANNOTATION));
            pod.enrolment = annotation.cloned().unwrap_or_default();
        }
    }
    let control_plane_ready = match &lab.control_plane {
        Some(_) => crate::http::get_json(&layout.control_plane_socket(), "/debug/sync")
            .await
            .is_ok(),
        None => false,
    };
    LabStatus {
        name: layout.name().to_owned(),
        directory: layout.root().to_owned(),
        supervisor_pid: std::process::id(),
        ipv6: lab.network.ipv6(),
        mesh: lab.options.mesh,
        reconciled: lab.reconciled.load(Ordering::Acquire),
        fabric_namespace: layout.fabric_namespace(),
        kube_api: lab.kube_api.as_ref().map(super::kube::KubeApi::view),
        control_plane: view(
            lab.control_plane.as_ref(),
            layout.control_plane_namespace(),
            control_plane_ready,
        ),
        nodes,
        pods,
    }
}

fn view(runner: Option<&Runner>, network_namespace: std::path::PathBuf, ready: bool) -> ProcessView {
    let Some(runner) = runner else {
        return ProcessView {
            network_namespace,
            state: "Absent".to_owned(),
            ..ProcessView::default()
        };
    };
    let run = runner.now();
    ProcessView {
        pid: run.pid(),
        network_namespace,
        ready: ready && run.pid().is_some(),
        restarts: run.restarts,
        state: super::container::state_word(&run),
    }
}

async fn restart(lab: &Lab, target: &str, how: RestartHow) -> Result<(), LabError> {
    let (kind, node) = target.split_once('/').unwrap_or((target, ""));
    let unknown = || {
        let nodes: Vec<&str> = lab.nodes.keys().map(String::as_str).collect();
        LabError::Usage(format!(
            "cannot restart `{target}`: name ztunnel/NODE, node-agent/NODE (NODE is one of {}) or control-plane",
            nodes.join(", ")
        ))
    };
    // Longer than the process' own drain, so that SIGTERM is tried to its end.
    let grace = mesh::GRACE + Duration::from_secs(5);
    let runner = match kind {
        "control-plane" => lab.control_plane.as_ref(),
        "ztunnel" => lab.nodes.get(node).map(|processes| &processes.ztunnel),
        "node-agent" => lab.nodes.get(node).map(|processes| &processes.agent),
        _ => None,
    };
    let runner = runner.ok_or_else(unknown)?;
    if how == RestartHow::Surge {
        let (true, Some(network)) = (kind == "ztunnel", lab.network.node(node)) else {
            return Err(LabError::Usage(format!(
                "`{target}` cannot run twice at a time: --surge is for ztunnel/NODE"
            )));
        };
        return surge(lab, target, runner, network, grace).await;
    }
    runner.restart(how == RestartHow::Kill, grace).await;
    let layout: Arc<Layout> = Arc::new(lab.layout.clone());
    let ready = async {
        loop {
            let up = runner.now();
            let ready = matches!(up.state, RunState::Running { .. })
                && match (kind, lab.network.node(node)) {
                    ("ztunnel", Some(node)) => mesh::proxy_is_ready(node).await,
                    ("node-agent", _) => ready::agent_answers(&layout, node).await,
                    _ => crate::http::get_json(&layout.control_plane_socket(), "/debug/sync")
                        .await
                        .is_ok(),
                };
            if ready {
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(BACK_WITHIN, ready).await.map_err(|_| {
        let log = lab.layout.log(&target.replace('/', "-"));
        other(format!("restarting {target}"))(format!(
            "it was not ready within {BACK_WITHIN:?}{}",
            crate::logs::tail(&log)
        ))
    })
}

async fn restart_kube_api(lab: &Lab, how: RestartHow) -> Result<(), LabError> {
    let api = lab.kube_api.as_ref().ok_or_else(|| {
        LabError::Usage(
            "this lab has no Kubernetes API: bring it up with `--control-plane kubernetes`".to_owned(),
        )
    })?;
    if how == RestartHow::Surge {
        return Err(LabError::Usage(
            "`kube-api` cannot run twice at a time: --surge is for ztunnel/NODE".to_owned(),
        ));
    }
    api.restart(how).await
}

/// Replaces a node proxy without a gap.
async fn surge(
    lab: &Lab,
    target: &str,
    runner: &Runner,
    node: &NodeNetwork,
    grace: Duration,
) -> Result<(), LabError> {
    let (pods, node) = (lab.pods.clone(), node.namespace.clone());
    let ready: ReadyCheck = Box::new(move |pid| {
        Box::pin(async move {
            spare_process(&pods, pid);
            let ready = async {
                while !mesh::is_ready_as(&node, pid).await {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            };
            tokio::time::timeout(BACK_WITHIN, ready).await.is_ok()
        })
    });
    runner.replace(ready, grace).await.map_err(|failure| {
        let log = lab.layout.log(&target.replace('/', "-"));
        other(format!("replacing {target}"))(format!("{failure}{}", crate::logs::tail(&log)))
    })
}
