//! The life of one pod: its namespace and wire, its processes, and what its status says about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use object_store::Directory;
use objects::{Container, Object, Pod, RestartPolicy};
use serde_json::{Value, json};
use sys::Namespace;
use tokio_util::sync::CancellationToken;

use super::container;
use super::runner::{Recipe, Restart, Run, RunState, Runner};
use super::strays;
use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::network::{NodeNetwork, SharedNetwork};
use crate::plan;
use crate::status::{ContainerView, PodView};

/// How long a pod may take to end when its manifest says nothing. Kubernetes has 30 s; a lab is impatient.
const GRACE: Duration = Duration::from_secs(5);
/// How often a pod that is not ready is looked at again.
const LOOK: Duration = Duration::from_millis(40);
/// A pod that cannot be wired is tried again after this.
const WIRE_AGAIN: Duration = Duration::from_secs(1);

/// What all pods share.
pub(crate) struct PodHost {
    pub(crate) layout: Layout,
    pub(crate) network: SharedNetwork,
    pub(crate) store: Directory,
    /// This program, which is also the test application.
    pub(crate) ztctl: PathBuf,
    /// The last address index given out on each node: addresses are not reused before the range is used up.
    pub(crate) indices: Mutex<BTreeMap<String, Indices>>,
    /// By pod uid.
    pub(crate) views: Mutex<BTreeMap<String, PodView>>,
    /// The mesh's own processes, which visit pods' namespaces and must not be taken for pods' processes.
    pub(crate) spared: Mutex<BTreeSet<u32>>,
}

/// Which addresses of a node are given out.
#[derive(Default)]
pub(crate) struct Indices {
    last: u16,
    used: BTreeSet<u16>,
}

impl Indices {
    /// The next free index after the last one given out.
    fn take(&mut self) -> Option<u16> {
        let first = self.last.max(plan::POD_INDEX_MIN - 1) + 1;
        let free = (first..=plan::POD_INDEX_MAX)
            .chain(plan::POD_INDEX_MIN..first)
            .find(|index| !self.used.contains(index))?;
        self.used.insert(free);
        self.last = free;
        Some(free)
    }

    fn give_back(&mut self, index: u16) {
        self.used.remove(&index);
    }
}

impl PodHost {
    pub(crate) fn views(&self) -> MutexGuard<'_, BTreeMap<String, PodView>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn indices(&self) -> MutexGuard<'_, BTreeMap<String, Indices>> {
        self.indices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a pod is wired.
struct Sandbox {
    namespace: Namespace,
    addresses: Vec<IpAddr>,
    /// `None` for a pod on its node's own network.
    index: Option<u16>,
}

/// Runs a pod until `stop`, and then ends its processes and removes its namespace. `hurry` shortens the wait for its
/// processes.
pub(crate) async fn run(
    host: Arc<PodHost>,
    object: Arc<Object>,
    stop: CancellationToken,
    hurry: CancellationToken,
) {
    let Some(pod) = object.as_pod() else { return };
    let Some(node) = host.network.node(&pod.spec.node_name) else {
        return;
    };
    let mut life = Life {
        host: &host,
        object: &object,
        pod,
        node,
        started: objects::timestamp(SystemTime::now()),
        written: Value::Null,
    };
    let Some(sandbox) = life.wire(&stop).await else {
        return;
    };
    if let Err(error) = life.prepare_files(&sandbox) {
        life.report(&sandbox, &[], Some(error.to_string())).await;
        stop.cancelled().await;
    }
    let mut runners = Vec::new();
    if life.run_init_containers(&sandbox, &stop, &mut runners).await {
        for (container, position) in pod.spec.containers.iter().zip(0..) {
            let field = format!("/spec/containers/{position}");
            runners.push(life.start(&sandbox, container, &field, restart_of(pod.spec.restart_policy)));
        }
        life.watch(&sandbox, &runners, &stop).await;
    }
    life.end(sandbox, runners, &hurry).await;
}

/// One container and its process.
struct Running<'a> {
    container: &'a Container,
    runner: Runner,
}

struct Life<'a> {
    host: &'a PodHost,
    object: &'a Object,
    pod: &'a Pod,
    node: &'a NodeNetwork,
    started: String,
    /// The status as written last.
    written: Value,
}

impl<'a> Life<'a> {
    fn uid(&self) -> &str {
        &self.object.metadata.uid
    }

    async fn wire(&mut self, stop: &CancellationToken) -> Option<Sandbox> {
        loop {
            match self.try_wire().await {
                Ok(sandbox) => {
                    self.report(&sandbox, &[], None).await;
                    return Some(sandbox);
                }
                Err(error) => {
                    tracing::error!(pod = %self.object.key(), %error, "the pod cannot be wired; trying again");
                    let message = error.to_string();
                    let status = json!({ "phase": "Pending", "reason": "Network", "message": message });
                    self.write(status).await;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(WIRE_AGAIN) => {}
            }
        }
    }

    async fn try_wire(&self) -> Result<Sandbox, LabError> {
        if self.pod.spec.host_network {
            let mut addresses = vec![IpAddr::V4(self.node.plan.fabric_v4())];
            if self.host.network.ipv6() {
                addresses.push(IpAddr::V6(self.node.plan.fabric_v6()));
            }
            return Ok(Sandbox {
                namespace: self.node.namespace.clone(),
                addresses,
                index: None,
            });
        }
        let name = &self.node.plan.name;
        let index = self
            .host
            .indices()
            .entry(name.clone())
            .or_default()
            .take()
            .ok_or_else(|| {
                LabError::Failed(format!(
                    "{name} has no free pod address; it has room for 253 pods"
                ))
            })?;
        match self.host.network.attach_pod(self.node, self.uid(), index).await {
            Ok((namespace, addresses)) => Ok(Sandbox {
                namespace,
                addresses,
                index: Some(index),
            }),
            Err(error) => {
                // Half of a wire; whatever fails now is in the error above.
                let _ = self.host.network.detach_pod(self.node, self.uid(), index).await;
                self.host
                    .indices()
                    .entry(name.clone())
                    .or_default()
                    .give_back(index);
                Err(error)
            }
        }
    }

    fn etc(&self) -> PathBuf {
        self.host.layout.etc().join("pods").join(self.uid())
    }

    fn prepare_files(&self, sandbox: &Sandbox) -> Result<(), LabError> {
        let etc = self.etc();
        fs::create_dir_all(&etc).map_err(LabError::system(format!("making {}", etc.display())))?;
        let Object { metadata, .. } = self.object;
        let hostname = container::hostname(self.object);
        for (name, text) in [
            ("resolv.conf", container::resolv_conf(&metadata.namespace)),
            ("hosts", container::hosts(&hostname, &sandbox.addresses)),
            ("hostname", format!("{hostname}\n")),
        ] {
            let path = etc.join(name);
            fs::write(&path, text).map_err(LabError::system(format!("writing {}", path.display())))?;
        }
        Ok(())
    }

    /// Runs the init containers one after the other; those that restart always stay beside the others. False when the
    /// pod is to stop.
    async fn run_init_containers(
        &mut self,
        sandbox: &Sandbox,
        stop: &CancellationToken,
        runners: &mut Vec<Running<'a>>,
    ) -> bool {
        let pod = self.pod;
        for (container, position) in pod.spec.init_containers.iter().zip(0..) {
            let field = format!("/spec/initContainers/{position}");
            if container.restart_always {
                runners.push(self.start(sandbox, container, &field, Restart::Always));
                continue;
            }
            let policy = match pod.spec.restart_policy {
                RestartPolicy::Never => Restart::Never,
                RestartPolicy::Always | RestartPolicy::OnFailure => Restart::OnFailure,
            };
            let running = self.start(sandbox, container, &field, policy);
            let mut state = running.runner.watch();
            let ended = loop {
                if let RunState::Ended(ended) = &state.borrow_and_update().state {
                    break Some(ended.clone());
                }
                tokio::select! {
                    () = stop.cancelled() => break None,
                    changed = state.changed() => if changed.is_err() { break None },
                }
            };
            running.runner.stop(self.grace()).await;
            match ended {
                Some(ended) if ended.code == 0 => {}
                Some(ended) => {
                    let message = format!("the init container {} failed: {}", container.name, ended.text);
                    let status = json!({ "phase": "Failed", "reason": "InitContainer", "message": message });
                    self.write(status).await;
                    stop.cancelled().await;
                    return false;
                }
                None => return false,
            }
        }
        true
    }

    fn start(
        &self,
        sandbox: &Sandbox,
        container: &'a Container,
        field: &str,
        restart: Restart,
    ) -> Running<'a> {
        let layout = &self.host.layout;
        let metadata = &self.object.metadata;
        let etc = self.etc();
        let (program, args) = container::command(container, &self.host.ztctl);
        let env = container::environment(
            self.object,
            self.pod,
            container,
            &sandbox.addresses,
            &self.host.ztctl,
        );
        let directory = self
            .object
            .raw()
            .pointer(&format!("{field}/workingDir"))
            .and_then(Value::as_str);
        let mut binds = Vec::new();
        for (name, target) in [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts")] {
            binds.push((etc.join(name), PathBuf::from(target)));
        }
        let recipe = Recipe {
            label: format!("pod_{}_{}", self.uid(), container.name),
            program: container::find(&program, &self.host.ztctl).unwrap_or_else(|| PathBuf::from(&program)),
            args: container::expand_all(&args, &env),
            env,
            directory: Some(PathBuf::from(directory.unwrap_or("/"))),
            network: sandbox.namespace.clone(),
            binds,
            log: layout.container_log(&metadata.namespace, &metadata.name, &container.name),
            pids: layout.pids(),
            restart,
        };
        Running {
            container,
            runner: Runner::start(recipe),
        }
    }

    /// Keeps the status true until the pod is to stop.
    async fn watch(&mut self, sandbox: &Sandbox, runners: &[Running<'a>], stop: &CancellationToken) {
        let mut states: Vec<_> = runners.iter().map(|running| running.runner.watch()).collect();
        loop {
            for state in &mut states {
                state.mark_unchanged();
            }
            let ready = self.report(sandbox, runners, None).await;
            let changed = async {
                let waits = states.iter_mut().map(|state| Box::pin(state.changed()));
                futures_util::future::select_all(waits).await
            };
            tokio::select! {
                () = stop.cancelled() => return,
                _ = changed => {}
                () = tokio::time::sleep(LOOK), if !ready => {}
            }
        }
    }

    /// Writes the status if it changed. True when the pod is as ready as it can become by waiting.
    async fn report(&mut self, sandbox: &Sandbox, runners: &[Running<'a>], problem: Option<String>) -> bool {
        let runs: Vec<Run> = runners.iter().map(|running| running.runner.now()).collect();
        let listening = listening_ports(&sandbox.namespace, runners);
        let containers: Vec<ContainerView> = runners
            .iter()
            .zip(&runs)
            .map(|(running, run)| {
                let up = matches!(run.state, RunState::Running { .. });
                let wanted = container::ports_of_app(running.container);
                ContainerView {
                    name: running.container.name.clone(),
                    pid: run.pid(),
                    ready: up && wanted.iter().all(|port| listening.contains(port)),
                    restarts: run.restarts,
                    state: container::state_word(run),
                }
            })
            .collect();
        let phase = phase_of(&runs, runners.len() < self.pod.spec.containers.len());
        let ready = phase == "Running" && containers.iter().all(|container| container.ready);
        let mut status = container::status(&containers, &runs, phase, ready);
        let text = |addresses: &[IpAddr]| -> Vec<Value> {
            addresses
                .iter()
                .map(|address| json!({ "ip": address.to_string() }))
                .collect()
        };
        let mut host_addresses = vec![IpAddr::V4(self.node.plan.fabric_v4())];
        if self.host.network.ipv6() {
            host_addresses.push(IpAddr::V6(self.node.plan.fabric_v6()));
        }
        status["podIP"] = json!(sandbox.addresses[0].to_string());
        status["podIPs"] = json!(text(&sandbox.addresses));
        status["hostIP"] = json!(host_addresses[0].to_string());
        status["hostIPs"] = json!(text(&host_addresses));
        status["startTime"] = json!(self.started);
        status["message"] = problem.as_ref().map_or(Value::Null, |problem| json!(problem));
        status["reason"] = problem.as_ref().map_or(Value::Null, |_| json!("Lab"));
        self.host.views().insert(
            self.uid().to_owned(),
            PodView {
                namespace: self.object.metadata.namespace.clone(),
                name: self.object.metadata.name.clone(),
                uid: self.uid().to_owned(),
                node: self.node.plan.name.clone(),
                network_namespace: match sandbox.index {
                    Some(_) => self.host.layout.pod_namespaces().join(self.uid()),
                    None => self.host.layout.node_namespace(&self.node.plan.name),
                },
                addresses: sandbox.addresses.clone(),
                phase: phase.to_owned(),
                ready,
                containers,
                enrolment: String::new(),
            },
        );
        self.write(status).await;
        ready || phase == "Succeeded" || phase == "Failed"
    }

    async fn write(&mut self, status: Value) {
        if self.written == status {
            return;
        }
        match self
            .host
            .store
            .patch_status(&self.object.key(), self.uid(), status.clone())
            .await
        {
            Ok(_) => self.written = status,
            // Deleted meanwhile: the stop comes.
            Err(object_store::WriteError::Gone { .. }) => {}
            Err(error) => {
                tracing::warn!(pod = %self.object.key(), %error, "the pod's status cannot be written")
            }
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self
            .object
            .raw()
            .pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_u64);
        seconds.map_or(GRACE, Duration::from_secs)
    }

    async fn end(self, sandbox: Sandbox, runners: Vec<Running<'a>>, hurry: &CancellationToken) {
        let grace = self.grace();
        let ends = runners.into_iter().map(|running| running.runner.stop(grace));
        tokio::select! {
            _ = futures_util::future::join_all(ends) => {}
            // The rest is killed below.
            () = hurry.cancelled() => {}
        }
        if let Some(index) = sandbox.index {
            let spared = self
                .host
                .spared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            strays::kill_all_in(std::slice::from_ref(&sandbox.namespace), &spared).await;
            if let Err(error) = self.host.network.detach_pod(self.node, self.uid(), index).await {
                tracing::warn!(pod = %self.object.key(), %error, "the pod's wire cannot be removed");
            }
            self.host
                .indices()
                .entry(self.node.plan.name.clone())
                .or_default()
                .give_back(index);
        }
        let _ = fs::remove_dir_all(self.etc());
        self.host.views().remove(self.uid());
    }
}

fn restart_of(policy: RestartPolicy) -> Restart {
    match policy {
        RestartPolicy::Always => Restart::Always,
        RestartPolicy::OnFailure => Restart::OnFailure,
        RestartPolicy::Never => Restart::Never,
    }
}

fn phase_of(runs: &[Run], more_to_come: bool) -> &'static str {
    let ended: Vec<i32> = runs
        .iter()
        .filter_map(|run| {
            if let RunState::Ended(ended) = &run.state {
                Some(ended.code)
            } else {
                None
            }
        })
        .collect();
    if !runs.is_empty() && ended.len() == runs.len() {
        return if ended.iter().all(|code| *code == 0) {
            "Succeeded"
        } else {
            "Failed"
        };
    }
    let fresh = |run: &Run| matches!(run.state, RunState::Waiting { last: None });
    if more_to_come || runs.is_empty() || runs.iter().any(fresh) {
        "Pending"
    } else {
        "Running"
    }
}

/// The ports that are listened on in the namespace; asked only when somebody waits for one.
fn listening_ports(namespace: &Namespace, runners: &[Running<'_>]) -> BTreeSet<u16> {
    if runners
        .iter()
        .all(|running| container::ports_of_app(running.container).is_empty())
    {
        return BTreeSet::new();
    }
    match sys::diag::sockets(namespace).map_err(other("listing sockets")) {
        Ok(sockets) => sockets
            .into_iter()
            .filter(|socket| socket.state == sys::diag::State::Listen)
            .map(|socket| socket.local.port())
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot see who listens in a pod");
            BTreeSet::new()
        }
    }
}

#[cfg(test)]
mod tests;
