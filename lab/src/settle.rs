//! Waiting until a change of objects has had its whole effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use object_store::Directory;
use objects::{Kind, Object, ObjectKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::control;
use crate::controllers::is_node_proxy;
use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::logs::tail;
use crate::status::LabStatus;

const LOOK: Duration = Duration::from_millis(25);

/// Whose readiness is waited for. Enrolment and configuration are always waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Every pod there is.
    all: bool,
    /// These pods and Deployments, while they exist.
    ready: BTreeSet<ObjectKey>,
    /// These must be gone.
    gone: BTreeSet<ObjectKey>,
}

impl Scope {
    /// Every pod must be ready.
    pub(crate) fn everything() -> Scope {
        Scope {
            all: true,
            ..Scope::default()
        }
    }

    /// These pods and Deployments must be ready, and those must be gone.
    pub(crate) fn of(
        ready: impl IntoIterator<Item = ObjectKey>,
        gone: impl IntoIterator<Item = ObjectKey>,
    ) -> Scope {
        Scope {
            all: false,
            ready: ready.into_iter().collect(),
            gone: gone.into_iter().collect(),
        }
    }
}

/// Waits until the present objects are in force: controllers done, pods ready, every pod enrolled or not as it should
/// be, and every node proxy up to date; and until nothing was written meanwhile. After the deadline the error names
/// who is late.
pub(crate) async fn wait(
    layout: &Layout,
    store: &Directory,
    scope: &Scope,
    deadline: Instant,
) -> Result<(), LabError> {
    let begun = Instant::now();
    loop {
        let (revision, objects) = list(store).await?;
        let status = control::status(layout).await?;
        let late = match laggard(layout, &status, revision, &objects, scope).await {
            Some(laggard) => laggard,
            None if list_revision(store).await? == revision => return Ok(()),
            None => Laggard {
                text: "the objects keep changing".to_owned(),
                log: None,
            },
        };
        if Instant::now() >= deadline {
            let log = late.log.map_or_else(String::new, |path| tail(&path));
            let waited = begun.elapsed().as_secs_f64();
            return Err(LabError::Late(format!("after {waited:.1} s: {}{log}", late.text)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Who is late.
struct Laggard {
    text: String,
    log: Option<std::path::PathBuf>,
}

impl Laggard {
    fn new(text: String) -> Option<Laggard> {
        Some(Laggard { text, log: None })
    }
}

async fn laggard(
    layout: &Layout,
    status: &LabStatus,
    revision: u64,
    objects: &[Arc<Object>],
    scope: &Scope,
) -> Option<Laggard> {
    if status.reconciled < revision {
        return Laggard::new(format!(
            "the lab's controllers have done their work up to revision {} of {revision}",
            status.reconciled
        ));
    }
    if let Some(key) = scope
        .gone
        .iter()
        .find(|key| objects.iter().any(|object| object.key() == **key))
    {
        return Laggard::new(format!("{key} is still there"));
    }
    if let Some(late) = unready(layout, objects, scope) {
        return Some(late);
    }
    if let Some(api) = status.kube_api.as_ref().filter(|api| api.objects < revision) {
        return Laggard::new(format!(
            "the Kubernetes API shows the objects up to revision {} of {revision}",
            api.objects
        ));
    }
    let goal = Goal {
        revision,
        api: status.kube_api.as_ref().map(|api| api.revision),
    };
    if !status.mesh {
        return None;
    }
    for node in &status.nodes {
        if let Some(late) = agent(layout, &node.name, goal).await {
            return Some(late);
        }
    }
    control_plane(layout, status, goal).await
}

/// A pod or Deployment in scope that is not ready.
fn unready(layout: &Layout, objects: &[Arc<Object>], scope: &Scope) -> Option<Laggard> {
    for object in objects {
        let key = object.key();
        if key.kind == Kind::Deployment && (scope.all || scope.ready.contains(&key)) {
            let wanted = object
                .as_deployment()
                .map_or(0, |deployment| u64::from(deployment.replicas));
            let count = |field: &str| {
                object
                    .status()
                    .and_then(|status| status.get(field))
                    .and_then(Value::as_u64)
            };
            let (ready, updated, all) = (
                count("readyReplicas"),
                count("updatedReplicas"),
                count("replicas"),
            );
            if (ready, updated, all) != (Some(wanted), Some(wanted), Some(wanted)) {
                let text = format!(
                    "{key}: {} of {wanted} pods are ready, {} of the present template, {} in all",
                    ready.unwrap_or(0),
                    updated.unwrap_or(0),
                    all.unwrap_or(0)
                );
                let pod = objects
                    .iter()
                    .find_map(|pod| of_deployment(pod, object).then(|| pod_late(layout, pod))?);
                let (more, log) = pod.map_or((String::new(), None), |late| {
                    (format!("; {}", late.text), late.log)
                });
                return Some(Laggard {
                    text: text + &more,
                    log,
                });
            }
        }
        if key.kind == Kind::Deployment && (scope.all || scope.ready.contains(&key)) {
            let leaving =
                |pod: &&Arc<Object>| of_deployment(pod, object) && pod.metadata.deletion_timestamp.is_some();
            if let Some(pod) = objects.iter().find(leaving) {
                return Laggard::new(format!("{key}: {} is still being ended", pod.key()));
            }
        }
        if key.kind == Kind::Pod && (scope.all || scope.ready.contains(&key)) && !is_node_proxy(object) {
            let late = pod_late(layout, object);
            if late.is_some() {
                return late;
            }
        }
    }
    None
}

fn of_deployment(pod: &Object, deployment: &Object) -> bool {
    pod.kind() == Kind::Pod
        && pod
            .metadata
            .owner
            .as_ref()
            .is_some_and(|owner| owner.uid == deployment.metadata.uid)
}

/// Why a pod is not ready; none when it is, or has done its work.
fn pod_late(layout: &Layout, object: &Object) -> Option<Laggard> {
    let pod = object.as_pod()?;
    if object.metadata.deletion_timestamp.is_some() {
        return Laggard::new(format!("{} is being ended", object.key()));
    }
    if pod.is_ready() || pod.status.phase == objects::Phase::Succeeded {
        return None;
    }
    let text = |path: &str| {
        object
            .raw()
            .pointer(path)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let mut reasons: Vec<String> = Vec::new();
    reasons.extend(text("/status/message"));
    reasons.extend(text("/status/conditions/0/message"));
    let mut log = None;
    let statuses = object
        .raw()
        .pointer("/status/containerStatuses")
        .and_then(Value::as_array);
    for container in statuses.into_iter().flatten() {
        if container.get("ready") == Some(&Value::Bool(true)) {
            continue;
        }
        let part = |path: &str| container.pointer(path).and_then(Value::as_str);
        let name = part("/name").unwrap_or_default();
        let state = ["waiting", "terminated"].iter().find_map(|state| {
            let reason = part(&format!("/state/{state}/reason"))?;
            Some(format!(
                "{reason}: {}",
                part(&format!("/state/{state}/message")).unwrap_or_default()
            ))
        });
        reasons.push(format!(
            "container {name}: {}",
            state.unwrap_or_else(|| "runs, but does not listen".to_owned())
        ));
        log = Some(layout.container_log(&object.metadata.namespace, &object.metadata.name, name));
    }
    if reasons.is_empty() {
        reasons.push(
            if pod.spec.node_name.is_empty() {
                "it has no node"
            } else {
                "it is being started"
            }
            .to_owned(),
        );
    }
    Some(Laggard {
        text: format!("{} is not ready: {}", object.key(), reasons.join("; ")),
        log,
    })
}

/// How far everybody must be.
#[derive(Clone, Copy)]
struct Goal {
    /// In the lab's own store.
    revision: u64,
    /// In the Kubernetes API, where that is what is read.
    api: Option<u64>,
}

/// How far a reader of the Kubernetes API is: who knows its batch `revision` knows every kind up to these versions.
#[derive(Deserialize)]
struct Source {
    revision: u64,
    versions: BTreeMap<String, u64>,
}

impl Goal {
    /// The revision that a program must have reached by its own count, or how far its source is behind.
    fn of(self, source: Option<&Source>) -> Result<u64, String> {
        let Some(api) = self.api else {
            return Ok(self.revision);
        };
        let source = source.ok_or_else(|| "has read nothing of the Kubernetes API".to_owned())?;
        match source.versions.iter().find(|(_, version)| **version < api) {
            Some((kind, version)) => Err(format!(
                "knows the {kind} of the Kubernetes API up to {version} of {api}"
            )),
            None => Ok(source.revision),
        }
    }
}

/// The part of the node agent's answer that is used.
#[derive(Deserialize)]
struct AgentStatus {
    revision: Option<u64>,
    source: Option<Source>,
    error: Option<String>,
    pods: Vec<AgentPod>,
}

#[derive(Deserialize)]
struct AgentPod {
    namespace: String,
    name: String,
    state: String,
    settled: bool,
    error: Option<String>,
}

async fn agent(layout: &Layout, node: &str, goal: Goal) -> Option<Laggard> {
    let log = Some(layout.log(&format!("node-agent-{node}")));
    let answer = crate::http::get_json(&layout.agent_socket(node), "/status").await;
    let parsed = answer.and_then(|value| {
        serde_json::from_value::<AgentStatus>(value)
            .map_err(|error| format!("an answer not understood: {error}"))
    });
    let status = match parsed {
        Ok(status) => status,
        Err(error) => {
            return Some(Laggard {
                text: format!("the agent of {node} does not answer: {error}"),
                log,
            });
        }
    };
    let revision = match goal.of(status.source.as_ref()) {
        Ok(revision) => revision,
        Err(behind) => {
            let text = format!("the agent of {node} {behind}");
            return Some(Laggard { text, log });
        }
    };
    if status.revision.is_none_or(|seen| seen < revision) {
        let error = status
            .error
            .map_or_else(String::new, |error| format!(": {error}"));
        let seen = status.revision.unwrap_or(0);
        let text = format!("the agent of {node} has seen revision {seen} of {revision}{error}");
        return Some(Laggard { text, log });
    }
    let late = status.pods.iter().find(|pod| !pod.settled)?;
    let error = late
        .error
        .as_ref()
        .map_or_else(String::new, |error| format!(": {error}"));
    let text = format!(
        "the agent of {node} has not done with pod {}/{} ({}){error}",
        late.namespace, late.name, late.state
    );
    Some(Laggard { text, log })
}

/// The part of the control plane's answer that is used.
#[derive(Deserialize)]
struct SyncStatus {
    revision: u64,
    source: Option<Source>,
    proxies: Vec<ProxySync>,
}

#[derive(Deserialize)]
struct ProxySync {
    node: String,
    #[serde(default)]
    connected: bool,
    #[serde(default)]
    acknowledged: Option<u64>,
    #[serde(default)]
    rejected: Vec<Value>,
}

async fn control_plane(layout: &Layout, status: &LabStatus, goal: Goal) -> Option<Laggard> {
    let log = Some(layout.log("control-plane"));
    let answer = crate::http::get_json(&layout.control_plane_socket(), "/debug/sync").await;
    let parsed = answer.and_then(|value| {
        serde_json::from_value::<SyncStatus>(value)
            .map_err(|error| format!("an answer not understood: {error}"))
    });
    let sync = match parsed {
        Ok(sync) => sync,
        Err(error) => {
            return Some(Laggard {
                text: format!("the control plane does not answer: {error}"),
                log,
            });
        }
    };
    let revision = match goal.of(sync.source.as_ref()) {
        Ok(revision) => revision,
        Err(behind) => {
            let text = format!("the control plane {behind}");
            return Some(Laggard { text, log });
        }
    };
    if sync.revision < revision {
        let text = format!(
            "the control plane has compiled revision {} of {revision}",
            sync.revision
        );
        return Some(Laggard { text, log });
    }
    for node in &status.nodes {
        let name = &node.name;
        let log = Some(layout.log(&format!("ztunnel-{name}")));
        let streams: Vec<&ProxySync> = sync
            .proxies
            .iter()
            .filter(|proxy| proxy.node == *name && proxy.connected)
            .collect();
        // A proxy that was just replaced may have an old stream still open.
        let Some(best) = streams.iter().max_by_key(|proxy| proxy.acknowledged) else {
            return Some(Laggard {
                text: format!("the proxy of {name} is not connected to the control plane"),
                log,
            });
        };
        let acknowledged = best.acknowledged.unwrap_or(0);
        if acknowledged < revision {
            let rejected = if best.rejected.is_empty() {
                String::new()
            } else {
                format!("; it rejects {}", Value::from(best.rejected.clone()))
            };
            let text = format!(
                "the proxy of {name} has acknowledged revision {acknowledged} of {revision}{rejected}"
            );
            return Some(Laggard { text, log });
        }
    }
    None
}

pub(crate) async fn list(store: &Directory) -> Result<(u64, Vec<Arc<Object>>), LabError> {
    let store = store.clone();
    let listed = tokio::task::spawn_blocking(move || store.list()).await;
    listed
        .map_err(other("reading the objects"))?
        .map_err(other("reading the objects"))
}

async fn list_revision(store: &Directory) -> Result<u64, LabError> {
    let store = store.clone();
    let read = tokio::task::spawn_blocking(move || store.revision()).await;
    read.map_err(other("reading the objects"))?
        .map_err(other("reading the objects"))
}
