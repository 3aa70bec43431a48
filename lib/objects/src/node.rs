//! Nodes.

use crate::metadata::own;
use crate::read::{Field, Fields};
use crate::syntax::{self, IpBlock};

/// A machine that pods run on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The ranges its pods get addresses from, the primary one first.
    pub pod_cidrs: Vec<IpBlock>,
    /// Whether it takes no further pods.
    pub unschedulable: bool,
    /// The addresses it is reached by.
    pub addresses: Vec<NodeAddress>,
}

/// One address of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// The type: `InternalIP`, `ExternalIP`, `Hostname`, ….
    pub kind: String,
    /// The address or name.
    pub address: String,
}

impl Node {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Node {
        let mut node = Node::default();
        if let Some(mut spec) = fields.get("spec").and_then(|field| field.fields()) {
            let mut read = |field: &Field<'_>| {
                let block = field.parsed(syntax::cidr);
                node.pod_cidrs
                    .extend(block.filter(|block| !node.pod_cidrs.contains(block)));
            };
            if let Some(field) = spec.get("podCIDR") {
                read(&field);
            }
            if let Some(field) = spec.get("podCIDRs") {
                field.items_up_to(2).iter().for_each(&mut read);
            }
            node.unschedulable = spec
                .get("unschedulable")
                .and_then(|field| field.boolean())
                .unwrap_or(false);
            spec.keep(&["configSource", "externalID", "providerID", "taints"]);
            spec.finish();
        }
        if let Some(mut status) = fields.get("status").and_then(|field| field.fields()) {
            if let Some(field) = status.get("addresses") {
                node.addresses = field.items().iter().filter_map(NodeAddress::read).collect();
            }
            status.keep(&[
                "allocatable",
                "capacity",
                "conditions",
                "config",
                "daemonEndpoints",
                "declaredFeatures",
                "features",
                "images",
                "nodeInfo",
                "phase",
                "runtimeHandlers",
                "volumesAttached",
                "volumesInUse",
            ]);
            status.finish();
        }
        node
    }
}

impl NodeAddress {
    fn read(field: &Field<'_>) -> Option<NodeAddress> {
        let mut fields = field.fields()?;
        let kind = own(fields.require("type", "such as InternalIP"));
        let address = own(fields.require("address", "the address"));
        fields.finish();
        Some(NodeAddress { kind, address })
    }
}
