//! What `ztctl lab status` tells.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A running lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabStatus {
    /// Its name.
    pub name: String,
    /// Its state directory.
    pub directory: PathBuf,
    /// The supervisor's process.
    pub supervisor_pid: u32,
    /// Whether it speaks IPv6 too.
    pub ipv6: bool,
    /// Whether it runs the mesh's programs; without, it is only nodes and pods.
    pub mesh: bool,
    /// The store's revision up to which the lab's controllers have done their work.
    pub reconciled: u64,
    /// The namespace of the wire between the nodes; the port towards a node has the node's name.
    pub fabric_namespace: PathBuf,
    /// The control plane.
    pub control_plane: ProcessView,
    /// The Kubernetes API, where the mesh's programs read one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_api: Option<KubeApiView>,
    /// The nodes.
    pub nodes: Vec<NodeView>,
    /// The pods.
    pub pods: Vec<PodView>,
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its namespace, for `nsenter --net=`.
    pub network_namespace: PathBuf,
    /// Its addresses on the wire between the nodes.
    pub addresses: Vec<IpAddr>,
    /// Its pods' range.
    pub pod_range: String,
    /// Its proxy.
    pub ztunnel: ProcessView,
    /// Its agent.
    pub node_agent: ProcessView,
}

/// A process of the mesh.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessView {
    /// Its id while it runs.
    pub pid: Option<u32>,
    /// Where it runs, for `nsenter --net=`.
    pub network_namespace: PathBuf,
    /// Whether it answers that it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Its state in a word.
    pub state: String,
}

/// The lab's Kubernetes API.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KubeApiView {
    /// Where it is found on this machine.
    pub url: String,
    /// What kubectl needs to call it.
    pub kubeconfig: PathBuf,
    /// The store's revision up to which it shows the objects.
    pub objects: u64,
    /// Its own revision at which it did.
    pub revision: u64,
}

/// A pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: String,
    /// Its network namespace, for `nsenter --net=`.
    pub network_namespace: PathBuf,
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
    /// Where it stands in its life.
    pub phase: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Its containers.
    pub containers: Vec<ContainerView>,
    /// How far its enrolment is: empty, `pending` or `enabled`.
    pub enrolment: String,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// The process while it runs.
    pub pid: Option<u32>,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Its state in a word, such as `CrashLoopBackOff`.
    pub state: String,
}
