//! Namespaces, links and routes of a lab.
//!
//! ```text
//!  fabric namespace: bridge "fabric" 172.31.0.1
//!     │ node-a          │ node-b           │ control-plane
//!     │ eth0 .11        │ eth0 .12         │ eth0 .2
//!  node-a             node-b            control plane
//!   br0 10.244.1.1     br0 10.244.2.1
//!    │ pod2   │ pod3    │ pod2
//!    eth0     eth0      eth0
//!    10.244.1.2/32      10.244.2.2/32      pods, default route by their node
//! ```
//!
//! A pod's address has no neighbours (/32): also a pod on the same node is reached by the node's IP layer, where the
//! Service NAT is undone.

mod slow;
mod sysctl;
mod wire;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use sys::Namespace;
use sys::link::Netlink;

use crate::error::{LabError, other};
use crate::layout::Layout;
use crate::plan::{self, NodePlan};
pub(crate) use slow::{SlowWire, Slowness};

const FABRIC_BRIDGE: &str = "fabric";
const NODE_BRIDGE: &str = "br0";
const UPLINK: &str = "eth0";
const CONTROL_PLANE: &str = "control-plane";
const KUBE_API: &str = "kube-api";

/// The wires of a running lab.
pub(crate) struct Network {
    layout: Layout,
    ipv6: bool,
    pub(crate) control_plane: Namespace,
    /// Where the Kubernetes API is found, if there is one.
    pub(crate) kube_api: Option<Namespace>,
    pub(crate) nodes: Vec<NodeNetwork>,
    fabric: Namespace,
    fabric_links: Netlink,
}

/// One node's namespace.
pub(crate) struct NodeNetwork {
    pub(crate) plan: NodePlan,
    pub(crate) namespace: Namespace,
    links: Netlink,
}

impl Network {
    /// Makes all namespaces but the pods'.
    pub(crate) async fn build(layout: &Layout, nodes: &[NodePlan], ipv6: bool) -> Result<Network, LabError> {
        let fabric = new_namespace(&layout.fabric_namespace(), ipv6, sysctl::Role::Router)?;
        let fabric_links = netlink(&fabric)?;
        fabric_links
            .bridge(FABRIC_BRIDGE)
            .await
            .map_err(other("making the fabric"))?;
        let control_plane = new_namespace(&layout.control_plane_namespace(), ipv6, sysctl::Role::Host)?;
        let mut network = Network {
            layout: layout.clone(),
            ipv6,
            control_plane: control_plane.clone(),
            kube_api: None,
            nodes: Vec::new(),
            fabric,
            fabric_links,
        };
        network
            .equip(
                &network.fabric_links,
                FABRIC_BRIDGE,
                (plan::FABRIC_V4, plan::FABRIC_V6),
            )
            .await?;
        let links = netlink(&control_plane)?;
        links
            .address("lo", plan::DNS_ADDRESS.into(), 32)
            .await
            .map_err(other("wiring the control plane"))?;
        network
            .join(
                &links,
                &control_plane,
                CONTROL_PLANE,
                (plan::CONTROL_PLANE_V4, plan::CONTROL_PLANE_V6),
            )
            .await?;
        for plan in nodes {
            let node = network.add_node(plan).await?;
            network.nodes.push(node);
        }
        Ok(network)
    }

    /// Makes the place of the Kubernetes API.
    pub(crate) async fn add_kube_api(&mut self) -> Result<(), LabError> {
        let namespace = new_namespace(&self.layout.kube_api_namespace(), self.ipv6, sysctl::Role::Host)?;
        let links = netlink(&namespace)?;
        self.join(
            &links,
            &namespace,
            KUBE_API,
            (plan::KUBE_API_V4, plan::KUBE_API_V6),
        )
        .await?;
        self.kube_api = Some(namespace);
        Ok(())
    }

    /// Whether the lab speaks IPv6 too.
    pub(crate) fn ipv6(&self) -> bool {
        self.ipv6
    }

    /// The node of this name.
    pub(crate) fn node(&self, name: &str) -> Option<&NodeNetwork> {
        self.nodes.iter().find(|node| node.plan.name == name)
    }

    /// Makes a pod's namespace, pinned under its uid, and wires it to its node. Gives the namespace and the pod's
    /// addresses, the primary one first.
    pub(crate) async fn attach_pod(
        &self,
        node: &NodeNetwork,
        uid: &str,
        index: u16,
    ) -> Result<(Namespace, Vec<IpAddr>), LabError> {
        let doing = || format!("wiring a pod to {}", node.plan.name);
        let namespace = new_namespace(
            &self.layout.pod_namespaces().join(uid),
            self.ipv6,
            sysctl::Role::Host,
        )?;
        let port = port_name(index);
        node.links
            .veth(&port, UPLINK, &namespace)
            .await
            .map_err(other(doing()))?;
        node.links
            .set_master(&port, NODE_BRIDGE)
            .await
            .map_err(other(doing()))?;
        node.links.up(&port).await.map_err(other(doing()))?;
        let links = netlink(&namespace)?;
        let (v4, v6) = (node.plan.pod_v4(index), node.plan.pod_v6(index));
        links
            .address(UPLINK, v4.into(), 32)
            .await
            .map_err(other(doing()))?;
        if self.ipv6 {
            links
                .address(UPLINK, v6.into(), 128)
                .await
                .map_err(other(doing()))?;
        }
        links.up(UPLINK).await.map_err(other(doing()))?;
        let gateway = node.plan.gateway_v4().into();
        links
            .route(ANY_V4, Some(gateway), Some(UPLINK), true)
            .await
            .map_err(other(doing()))?;
        if self.ipv6 {
            let gateway = node.plan.gateway_v6().into();
            links
                .route(ANY_V6, Some(gateway), Some(UPLINK), true)
                .await
                .map_err(other(doing()))?;
        }
        let mut addresses = vec![v4.into()];
        if self.ipv6 {
            addresses.push(v6.into());
        }
        Ok((namespace, addresses))
    }

    /// Cuts a pod's wire and releases its namespace. Nothing to do is no error.
    pub(crate) async fn detach_pod(&self, node: &NodeNetwork, uid: &str, index: u16) -> Result<(), LabError> {
        match node.links.delete(&port_name(index)).await {
            Err(error) if !error.is_missing() => return Err(other("cutting a pod's wire")(error)),
            _ => {}
        }
        Namespace::unpin(self.layout.pod_namespaces().join(uid))
            .map_err(LabError::system("releasing a pod's namespace"))
    }

    /// Cuts the wire between a node and everything else, or joins it again.
    pub(crate) async fn set_connected(&self, link: &str, connected: bool) -> Result<(), LabError> {
        let changed = if connected {
            self.fabric_links.up(link).await
        } else {
            self.fabric_links.down(link).await
        };
        changed.map_err(other(format!("switching the link {link}")))
    }

    /// Makes the wire between a node and everything else as slow as this, in place of `before`. Gives what is to be kept
    /// as long as the wire is slow; `None` when it is as fast as the kernel again.
    pub(crate) async fn set_slowness(
        &self,
        link: &str,
        before: Option<SlowWire>,
        slowness: Slowness,
    ) -> Result<Option<SlowWire>, LabError> {
        let slow = slowness != Slowness::default();
        match before {
            Some(wire) if slow => {
                wire.set(slowness);
                Ok(Some(wire))
            }
            Some(wire) => wire.remove(&self.fabric_links).await.map(|()| None),
            None if slow => SlowWire::insert(&self.fabric, &self.fabric_links, link, slowness)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    async fn add_node(&self, plan: &NodePlan) -> Result<NodeNetwork, LabError> {
        let namespace = new_namespace(
            &self.layout.node_namespace(&plan.name),
            self.ipv6,
            sysctl::Role::Router,
        )?;
        let links = netlink(&namespace)?;
        let doing = || format!("wiring {}", plan.name);
        links
            .address("lo", plan::DNS_ADDRESS.into(), 32)
            .await
            .map_err(other(doing()))?;
        self.join(
            &links,
            &namespace,
            &plan.name,
            (plan.fabric_v4(), plan.fabric_v6()),
        )
        .await?;
        links.bridge(NODE_BRIDGE).await.map_err(other(doing()))?;
        let (v4, v6) = (plan.pod_range_v4(), plan.pod_range_v6());
        links
            .address(NODE_BRIDGE, plan.gateway_v4().into(), v4.1)
            .await
            .map_err(other(doing()))?;
        if self.ipv6 {
            links
                .address(NODE_BRIDGE, plan.gateway_v6().into(), v6.1)
                .await
                .map_err(other(doing()))?;
        }
        links.up(NODE_BRIDGE).await.map_err(other(doing()))?;
        // Everybody's pods by their node; each direction when the second of the two is made.
        let via = |node: &NodePlan| (IpAddr::V4(node.fabric_v4()), IpAddr::V6(node.fabric_v6()));
        self.pod_routes(&self.fabric_links, plan, via(plan)).await?;
        for neighbour in &self.nodes {
            self.pod_routes(&links, &neighbour.plan, via(&neighbour.plan))
                .await?;
            self.pod_routes(&neighbour.links, plan, via(plan)).await?;
        }
        Ok(NodeNetwork {
            plan: plan.clone(),
            namespace,
            links,
        })
    }

    async fn pod_routes(
        &self,
        links: &Netlink,
        to: &NodePlan,
        via: (IpAddr, IpAddr),
    ) -> Result<(), LabError> {
        let doing = || format!("adding the routes to the pods of {}", to.name);
        let ((v4, v4_length), (v6, v6_length)) = (to.pod_range_v4(), to.pod_range_v6());
        links
            .route((v4.into(), v4_length), Some(via.0), None, false)
            .await
            .map_err(other(doing()))?;
        if self.ipv6 {
            links
                .route((v6.into(), v6_length), Some(via.1), None, false)
                .await
                .map_err(other(doing()))?;
        }
        Ok(())
    }

    /// Joins a namespace to the fabric: `eth0` there, a port called `port` here, and a default route.
    async fn join(
        &self,
        links: &Netlink,
        namespace: &Namespace,
        port: &str,
        addresses: (Ipv4Addr, Ipv6Addr),
    ) -> Result<(), LabError> {
        let doing = || format!("joining {port} to the fabric");
        self.fabric_links
            .veth(port, UPLINK, namespace)
            .await
            .map_err(other(doing()))?;
        self.fabric_links
            .set_master(port, FABRIC_BRIDGE)
            .await
            .map_err(other(doing()))?;
        self.fabric_links.up(port).await.map_err(other(doing()))?;
        self.equip(links, UPLINK, addresses).await?;
        links
            .route(ANY_V4, Some(plan::FABRIC_V4.into()), None, false)
            .await
            .map_err(other(doing()))?;
        if self.ipv6 {
            links
                .route(ANY_V6, Some(plan::FABRIC_V6.into()), None, false)
                .await
                .map_err(other(doing()))?;
        }
        Ok(())
    }

    async fn equip(
        &self,
        links: &Netlink,
        link: &str,
        (v4, v6): (Ipv4Addr, Ipv6Addr),
    ) -> Result<(), LabError> {
        let doing = || format!("giving {link} its addresses");
        links
            .address(link, v4.into(), plan::FABRIC_LENGTHS.0)
            .await
            .map_err(other(doing()))?;
        if self.ipv6 {
            links
                .address(link, v6.into(), plan::FABRIC_LENGTHS.1)
                .await
                .map_err(other(doing()))?;
        }
        links.up(link).await.map_err(other(doing()))
    }
}

const ANY_V4: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const ANY_V6: (IpAddr, u8) = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// The node's end of a pod's wire.
fn port_name(index: u16) -> String {
    format!("pod{index}")
}

fn new_namespace(path: &Path, ipv6: bool, role: sysctl::Role) -> Result<Namespace, LabError> {
    let namespace = Namespace::create().map_err(LabError::system("making a network namespace"))?;
    sysctl::apply(&namespace, ipv6, role)?;
    namespace.pin(path).map_err(LabError::system(format!(
        "pinning a network namespace at {}",
        path.display()
    )))?;
    Ok(namespace)
}

fn netlink(namespace: &Namespace) -> Result<Netlink, LabError> {
    Netlink::in_namespace(namespace).map_err(other("opening a netlink socket"))
}

/// Releases every namespace that is pinned in a lab's directory.
pub(crate) fn unpin_all(layout: &Layout) -> Result<(), LabError> {
    for directory in [layout.pod_namespaces(), layout.namespaces()] {
        for path in files_of(&directory) {
            Namespace::unpin(&path).map_err(LabError::system(format!("releasing {}", path.display())))?;
        }
    }
    Ok(())
}

/// The pinned namespaces of a lab, those of its pods included.
pub(crate) fn pinned(layout: &Layout) -> Vec<Namespace> {
    [layout.pod_namespaces(), layout.namespaces()]
        .iter()
        .flat_map(|directory| files_of(directory))
        .filter_map(|path| Namespace::open(path).ok())
        .collect()
}

fn files_of(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| !path.is_dir())
        .collect()
}

/// Shared by all who wire pods.
pub(crate) type SharedNetwork = Arc<Network>;
