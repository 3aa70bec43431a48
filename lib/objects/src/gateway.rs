//! Gateway (Gateway API), as far as it makes a waypoint or the gateway of a network.

use std::net::IpAddr;

use crate::document::{Data, Tree};
use crate::metadata::own;
use crate::read::{Field, Fields};
use crate::selector::Selector;
use crate::syntax;

/// The class of the Gateways that are waypoints.
pub const WAYPOINT_CLASS: &str = "istio-waypoint";
/// The class of the Gateways that stand for the gateway of another network.
pub const REMOTE_CLASS: &str = "istio-remote";
/// The class of the Gateways that let other networks in.
pub const EAST_WEST_CLASS: &str = "istio-east-west";
/// The label on a Service, Pod or Namespace that names the waypoint which its traffic goes through.
pub const USE_WAYPOINT_LABEL: &str = "istio.io/use-waypoint";
/// The label beside [`USE_WAYPOINT_LABEL`] that names the waypoint's namespace, where it is another one.
pub const USE_WAYPOINT_NAMESPACE_LABEL: &str = "istio.io/use-waypoint-namespace";
/// The value of [`USE_WAYPOINT_LABEL`] that opts out of the namespace's waypoint.
pub const NO_WAYPOINT: &str = "none";
/// The label on a Gateway or GatewayClass that says for which traffic it is a waypoint: `service`, `workload`, `all` or
/// `none`.
pub const WAYPOINT_FOR_LABEL: &str = "istio.io/waypoint-for";
/// The label on a Gateway that names its network.
pub const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The label on the pods of a Gateway that names it.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
/// The protocol of the listener by which the mesh reaches a Gateway.
pub const HBONE_PROTOCOL: &str = "HBONE";

/// How many listeners a Gateway may have, as in the Gateway API.
const MAX_LISTENERS: usize = 64;
/// How many addresses a Gateway may have, as in the Gateway API.
const MAX_ADDRESSES: usize = 16;

/// A proxy that stands in front of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// Who makes it run; [`WAYPOINT_CLASS`] for waypoints.
    pub class_name: String,
    /// What it listens on.
    pub listeners: Vec<Listener>,
    /// The addresses that its author asks for.
    pub wanted_addresses: Vec<GatewayAddress>,
    /// The addresses that it has (`status.addresses`); none while it is not ready. One that is no good is left out.
    pub addresses: Vec<GatewayAddress>,
}

/// Where a Gateway is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GatewayAddress {
    /// By name.
    Hostname(String),
    /// By address.
    Ip(IpAddr),
}

/// A port that a Gateway listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name, unique in the Gateway.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The protocol, such as `HBONE` or `HTTP`; implementations define further ones.
    pub protocol: String,
    /// From which namespaces it may be used.
    pub allowed: AllowedNamespaces,
}

/// From which namespaces a listener may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedNamespaces {
    /// The Gateway's own.
    #[default]
    Same,
    /// All.
    All,
    /// Those with these labels.
    Selector(Selector),
    /// None.
    None,
}

impl Gateway {
    /// Whether it is a waypoint.
    pub fn is_waypoint(&self) -> bool {
        self.class_name == WAYPOINT_CLASS
    }

    /// The listener by which the mesh reaches it: that of this port, or any for `None`.
    pub fn hbone_listener(&self, port: Option<u16>) -> Option<&Listener> {
        self.listeners.iter().find(|listener| {
            listener.protocol == HBONE_PROTOCOL && port.is_none_or(|port| listener.port == port)
        })
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Gateway> {
        let addresses = fields.get("status").map(|field| addresses(field.tree()));
        let mut spec = fields.require("spec", "a Gateway needs a spec")?.fields()?;
        let class_name = spec
            .require("gatewayClassName", "such as istio-waypoint")
            .and_then(|field| field.checked(syntax::dns_subdomain))
            .unwrap_or_default();
        let mut listeners: Vec<Listener> = Vec::new();
        if let Some(field) = spec.require("listeners", "a Gateway needs at least one listener") {
            let items = field.items_up_to(MAX_LISTENERS);
            if items.is_empty() && field.tree().is_sequence() {
                field.error("a Gateway needs at least one listener");
            }
            for item in items {
                let Some(listener) = Listener::read(&item) else {
                    continue;
                };
                if listeners.iter().any(|other| other.name == listener.name) {
                    item.error(format!("there is already a listener named {:?}", listener.name));
                }
                listeners.push(listener);
            }
        }
        let mut wanted_addresses = Vec::new();
        if let Some(field) = spec.get("addresses") {
            for item in field.items_up_to(MAX_ADDRESSES) {
                wanted_addresses.extend(GatewayAddress::read(&item));
            }
        }
        spec.keep(&[
            "allowedListeners",
            "backendTLS",
            "defaultScope",
            "infrastructure",
            "tls",
        ]);
        spec.finish();
        Some(Gateway {
            class_name: class_name.to_owned(),
            listeners,
            wanted_addresses,
            addresses: addresses.unwrap_or_default(),
        })
    }
}

impl Listener {
    fn read(field: &Field<'_>) -> Option<Listener> {
        let mut fields = field.fields()?;
        let name = fields
            .require("name", "every listener needs a name")
            .and_then(|field| field.checked(syntax::dns_subdomain));
        let port = fields
            .require("port", "the port to listen on")
            .and_then(|field| field.port());
        let protocol = own(fields.require("protocol", "such as HBONE"));
        let allowed = fields
            .get("allowedRoutes")
            .and_then(|field| AllowedNamespaces::read(&field))
            .unwrap_or_default();
        fields.keep(&["hostname", "tls"]);
        fields.finish();
        Some(Listener {
            name: name?.to_owned(),
            port: port?,
            protocol,
            allowed,
        })
    }
}

impl AllowedNamespaces {
    fn read(field: &Field<'_>) -> Option<AllowedNamespaces> {
        let mut routes = field.fields()?;
        let namespaces = routes.get("namespaces");
        routes.keep(&["kinds"]);
        routes.finish();
        let namespaces = namespaces?;
        let mut fields = namespaces.fields()?;
        let from = fields.get("from").and_then(|field| field.text());
        let selector = fields.get("selector").and_then(|field| Selector::read(&field));
        fields.finish();
        Some(match (from, selector) {
            (None | Some("Same"), _) => AllowedNamespaces::Same,
            (Some("All"), _) => AllowedNamespaces::All,
            (Some("None"), _) => AllowedNamespaces::None,
            (Some("Selector"), Some(selector)) => AllowedNamespaces::Selector(selector),
            (Some("Selector"), None) => {
                namespaces.error("from: Selector needs a selector");
                AllowedNamespaces::None
            }
            (Some(other), _) => {
                namespaces.error(format!(
                    "from: {other:?} is not accepted: use Same, All, Selector or None"
                ));
                AllowedNamespaces::None
            }
        })
    }
}

impl GatewayAddress {
    /// An address without a value asks for any.
    fn read(field: &Field<'_>) -> Option<GatewayAddress> {
        let mut fields = field.fields()?;
        let kind = own(fields.get("type"));
        let value = fields.get("value");
        fields.finish();
        let value = value.filter(|value| value.tree().text() != Some(""))?;
        match kind.as_str() {
            "" | "IPAddress" => value.parsed(syntax::address).map(GatewayAddress::Ip),
            "Hostname" => value
                .checked(syntax::dns_subdomain)
                .map(|name| GatewayAddress::Hostname(name.to_owned())),
            // Implementations define further ones.
            _ => None,
        }
    }
}

/// What a controller wrote is no reason to refuse what the author wrote: what is not understood of it is left out.
fn addresses(status: &Tree) -> Vec<GatewayAddress> {
    let Some(Data::Sequence(items)) = status.get("addresses").map(|field| &field.data) else {
        return Vec::new();
    };
    let read = |item: &Tree| {
        let value = item.get("value").and_then(Tree::text)?;
        match item.get("type").and_then(Tree::text).unwrap_or_default() {
            "" | "IPAddress" => syntax::address(value).ok().map(GatewayAddress::Ip),
            "Hostname" => syntax::dns_subdomain(value)
                .ok()
                .map(|()| GatewayAddress::Hostname(value.to_owned())),
            _ => None,
        }
    };
    items.iter().take(MAX_ADDRESSES).filter_map(read).collect()
}
