//! NetworkPolicy: which packets a pod's network lets through. It is the network plugin's to enforce; the mesh reads it
//! to say what it does to tunnels.

use crate::read::{Field, Fields};
use crate::selector::Selector;
use crate::service::TargetPort;
use crate::syntax::{self, IpBlock, PROTOCOLS, Protocol};

/// How many rules a direction, and how many peers and ports a rule may have; Kubernetes itself sets no limit.
const MAX_ENTRIES: usize = 1024;

/// Which packets the pods of a namespace let through. Policies add up: what any of them lets through passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkPolicy {
    /// The pods meant; empty: all of the namespace.
    pub pod_selector: Selector,
    /// What may come in; `None`: the policy does not touch this direction. Without rules, nothing may.
    pub ingress: Option<Vec<NetworkRule>>,
    /// What may go out; `None`: the policy does not touch this direction. Without rules, nothing may.
    pub egress: Option<Vec<NetworkRule>>,
}

/// Packets that pass: to or from one of the peers, on one of the ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkRule {
    /// The other end; empty: everything.
    pub peers: Vec<NetworkPeer>,
    /// The destination's ports; empty: all, of every protocol.
    pub ports: Vec<NetworkPort>,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkPeer {
    /// Addresses.
    Block {
        /// These,
        block: IpBlock,
        /// but not these, which lie inside.
        except: Vec<IpBlock>,
    },
    /// Pods.
    Pods {
        /// Their namespaces; `None`: the policy's own.
        namespaces: Option<Selector>,
        /// Their labels; `None`: all pods of those namespaces.
        pods: Option<Selector>,
    },
}

/// Ports of one protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkPort {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port, by number or by the container port's name; `None`: every port.
    pub port: Option<TargetPort>,
    /// The last port of a range that begins with a port's number.
    pub end_port: Option<u16>,
}

impl NetworkPolicy {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<NetworkPolicy> {
        fields.keep(&["status"]);
        let field = fields.require("spec", "a NetworkPolicy needs a spec")?;
        let mut spec = field.fields()?;
        let pod_selector = spec
            .get("podSelector")
            .and_then(|field| Selector::read(&field))
            .unwrap_or_default();
        let ingress = spec.get("ingress").map(|field| rules(&field, "from"));
        let egress = spec.get("egress").map(|field| rules(&field, "to"));
        let (mut takes_ingress, mut takes_egress) =
            (true, egress.as_ref().is_some_and(|rules| !rules.is_empty()));
        if let Some(field) = spec.get("policyTypes") {
            let types = field.items_up_to(2);
            let choices = [("Ingress", false), ("Egress", true)];
            let types: Vec<bool> = types.iter().filter_map(|item| item.choice(&choices)).collect();
            // An empty list is as none, and the rules say what is meant.
            if !types.is_empty() {
                takes_ingress = types.contains(&false);
                takes_egress = types.contains(&true);
            }
        }
        spec.finish();
        Some(NetworkPolicy {
            pod_selector,
            ingress: takes_ingress.then(|| ingress.unwrap_or_default()),
            egress: takes_egress.then(|| egress.unwrap_or_default()),
        })
    }
}

impl NetworkRule {
    /// Whether it lets a port through, whoever the peer is. `named` says whether a container port of this name is
    /// that port.
    pub fn lets_port_through(&self, protocol: Protocol, port: u16, named: impl Fn(&str) -> bool) -> bool {
        self.ports.is_empty()
            || self
                .ports
                .iter()
                .any(|entry| entry.covers(protocol, port, &named))
    }
}

impl NetworkPort {
    fn covers(&self, protocol: Protocol, port: u16, named: &impl Fn(&str) -> bool) -> bool {
        self.protocol == protocol
            && match (&self.port, self.end_port) {
                (None, _) => true,
                (Some(TargetPort::Number(first)), Some(last)) => (*first..=last).contains(&port),
                (Some(TargetPort::Number(number)), None) => *number == port,
                (Some(TargetPort::Name(name)), _) => named(name),
            }
    }

    fn read(field: &Field<'_>) -> Option<NetworkPort> {
        let mut fields = field.fields()?;
        let protocol = fields
            .get("protocol")
            .and_then(|field| field.choice(&PROTOCOLS))
            .unwrap_or_default();
        let port = fields.get("port").and_then(|field| {
            if field.tree().text().is_some() {
                let name = field.checked(syntax::port_name)?;
                return Some(TargetPort::Name(name.to_owned()));
            }
            field.port().map(TargetPort::Number)
        });
        let end_port = fields.get("endPort").and_then(|field| {
            let last = field.port()?;
            match &port {
                Some(TargetPort::Number(first)) if *first <= last => return Some(last),
                Some(TargetPort::Number(first)) => field.error(format!(
                    "is lower than port, {first}: the range would hold no port"
                )),
                _ => field.error("needs a port that is a number, with which the range begins"),
            }
            None
        });
        fields.finish();
        Some(NetworkPort {
            protocol,
            port,
            end_port,
        })
    }
}

impl NetworkPeer {
    fn read(field: &Field<'_>) -> Option<NetworkPeer> {
        let mut fields = field.fields()?;
        let block_field = fields.get("ipBlock");
        let namespace_field = fields.get("namespaceSelector");
        let pod_field = fields.get("podSelector");
        if block_field.is_some() && (namespace_field.is_some() || pod_field.is_some()) {
            field.error("ipBlock excludes podSelector and namespaceSelector: write two entries");
        }
        if fields.nothing_found() {
            field.error("names nobody: give podSelector, namespaceSelector or ipBlock");
        }
        let namespaces = namespace_field.as_ref().map(Selector::read);
        let pods = pod_field.as_ref().map(Selector::read);
        let block = block_field.as_ref().map(read_block);
        fields.finish();
        if let Some(block) = block {
            return block;
        }
        Some(NetworkPeer::Pods {
            // A selector that cannot be read is an error already; it must not become "none".
            namespaces: namespaces.map(Option::unwrap_or_default),
            pods: pods.map(Option::unwrap_or_default),
        })
    }
}

fn read_block(field: &Field<'_>) -> Option<NetworkPeer> {
    let mut fields = field.fields()?;
    let block = fields
        .require("cidr", "the addresses, such as 10.0.0.0/16")
        .and_then(|field| field.parsed(syntax::cidr));
    let mut except = Vec::new();
    for item in fields
        .get("except")
        .map(|field| field.items_up_to(MAX_ENTRIES))
        .unwrap_or_default()
    {
        let Some(inner) = item.parsed(syntax::cidr) else {
            continue;
        };
        if let Some(outer) = block
            && !(outer.contains(inner.address) && inner.length > outer.length)
        {
            item.error(format!(
                "{inner} does not lie inside of cidr, {outer}: it would except nothing"
            ));
        }
        except.push(inner);
    }
    fields.finish();
    Some(NetworkPeer::Block {
        block: block?,
        except,
    })
}

fn rules(field: &Field<'_>, peers: &'static str) -> Vec<NetworkRule> {
    let items = field.items_up_to(MAX_ENTRIES);
    let read = |item: &Field<'_>| {
        let mut fields = item.fields()?;
        let mut list = |name| {
            fields
                .get(name)
                .map(|field| field.items_up_to(MAX_ENTRIES))
                .unwrap_or_default()
        };
        let rule = NetworkRule {
            peers: list(peers).iter().filter_map(NetworkPeer::read).collect(),
            ports: list("ports").iter().filter_map(NetworkPort::read).collect(),
        };
        fields.finish();
        Some(rule)
    };
    items.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests;
