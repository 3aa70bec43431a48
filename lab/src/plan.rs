//! Which address belongs to what. Nothing here depends on the lab's name: every lab lives in its own namespaces.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many nodes a lab may have: node-a to node-z.
pub(crate) const NODES_MAX: usize = 26;

/// Where every pod and node finds the cluster's DNS: bound on `lo` of every node.
pub(crate) const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);

/// The prefix of Service addresses.
pub(crate) const SERVICE_PREFIX_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);
/// The prefix of Service addresses, IPv6.
pub(crate) const SERVICE_PREFIX_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);

/// The last pod address of a node that is given out (10.244.k.254).
pub(crate) const POD_INDEX_MAX: u16 = 254;
/// The first pod address of a node (10.244.k.2); .1 is the gateway.
pub(crate) const POD_INDEX_MIN: u16 = 2;

/// The first index given to a Service (10.96.0.10).
pub(crate) const SERVICE_INDEX_MIN: u16 = 10;

/// The k-th node, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) index: u8,
}

/// The nodes of a lab with `count` nodes.
pub(crate) fn nodes(count: usize) -> Vec<NodePlan> {
    (1..=count.min(NODES_MAX) as u8)
        .map(|index| NodePlan {
            name: format!("node-{}", char::from(b'a' + index - 1)),
            index,
        })
        .collect()
}

impl NodePlan {
    /// The node's address on the wire between nodes.
    pub(crate) fn fabric_v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, 0, 10 + self.index)
    }

    pub(crate) fn fabric_v6(&self) -> Ipv6Addr {
        fabric_v6(10 + u16::from(self.index))
    }

    /// The node's pod range: its address and prefix length.
    pub(crate) fn pod_range_v4(&self) -> (Ipv4Addr, u8) {
        (Ipv4Addr::new(10, 244, self.index, 0), 24)
    }

    pub(crate) fn pod_range_v6(&self) -> (Ipv6Addr, u8) {
        (
            Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(self.index), 0, 0, 0, 0),
            64,
        )
    }

    /// What the pods of this node have as their gateway.
    pub(crate) fn gateway_v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.index, 1)
    }

    pub(crate) fn gateway_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(self.index), 0, 0, 0, 1)
    }

    pub(crate) fn pod_v4(&self, index: u16) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.index, index.min(POD_INDEX_MAX) as u8)
    }

    pub(crate) fn pod_v6(&self, index: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, 0x244, u16::from(self.index), 0, 0, 0, index)
    }
}

/// The address of the bridge between the nodes: their default gateway. Nothing lies behind it, so what is unknown is
/// answered with "unreachable" at once. A test may add addresses there that play the outside world.
pub(crate) const FABRIC_V4: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 1);
/// Its IPv6 address.
pub(crate) const FABRIC_V6: Ipv6Addr = fabric_v6(1);
/// The control plane's address.
pub(crate) const CONTROL_PLANE_V4: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
/// The control plane's IPv6 address.
pub(crate) const CONTROL_PLANE_V6: Ipv6Addr = fabric_v6(2);
/// The address of the Kubernetes API, where there is one.
pub(crate) const KUBE_API_V4: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 3);
/// Its IPv6 address.
pub(crate) const KUBE_API_V6: Ipv6Addr = fabric_v6(3);
/// Prefix lengths on the wire between the nodes, IPv4 and IPv6.
pub(crate) const FABRIC_LENGTHS: (u8, u8) = (24, 64);

const fn fabric_v6(index: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x172, 0x31, 0, 0, 0, 0, index)
}

/// The Service address with this index.
pub(crate) fn service_v4(index: u16) -> Ipv4Addr {
    let [high, low] = index.to_be_bytes();
    Ipv4Addr::new(10, 96, high, low)
}

pub(crate) fn service_v6(index: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, index)
}

/// The index of a Service address, when it lies in the range that the lab gives out.
pub(crate) fn service_index(address: IpAddr) -> Option<u16> {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, high, low] = v4.octets();
            (a == 10 && b == 96).then_some(u16::from_be_bytes([high, low]))
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            (segments[..7] == SERVICE_PREFIX_V6.0.segments()[..7]).then_some(segments[7])
        }
    }
}

#[cfg(test)]
mod tests;
