//! EndpointSlices.

use std::net::IpAddr;

use crate::metadata::own;
use crate::read::{Field, Fields};
use crate::syntax::{self, PROTOCOLS, Protocol};

/// How many endpoints and ports a slice may hold, as API servers check it (of ports the API's documentation says 100).
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;

/// Some endpoints of the Service that the label `kubernetes.io/service-name` names.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSlice {
    /// What the addresses are.
    pub address_type: AddressType,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// The ports that every endpoint of the slice serves.
    pub ports: Vec<EndpointPort>,
}

/// What the addresses of a slice are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// DNS names, which the mesh does not use.
    Fqdn,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// Its addresses; empty in a slice of DNS names.
    pub addresses: Vec<IpAddr>,
    /// Whether it is ready; unsaid counts as ready.
    pub ready: bool,
    /// The object behind it.
    pub target: Option<TargetReference>,
    /// The node it is on.
    pub node_name: String,
    /// Its zone.
    pub zone: String,
}

/// The object behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetReference {
    /// The kind, usually `Pod`.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The uid.
    pub uid: String,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// The name of the Service port; empty for a Service with one unnamed port.
    pub name: String,
    /// The port; absent: any.
    pub port: Option<u16>,
    /// The protocol.
    pub protocol: Protocol,
}

impl EndpointSlice {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<EndpointSlice> {
        const TYPES: [(&str, AddressType); 3] = [
            ("IPv4", AddressType::Ipv4),
            ("IPv6", AddressType::Ipv6),
            ("FQDN", AddressType::Fqdn),
        ];
        let address_type = fields
            .require("addressType", "IPv4, IPv6 or FQDN")
            .and_then(|field| field.choice(&TYPES));
        let endpoints = fields
            .get("endpoints")
            .map(|field| field.items_up_to(MAX_ENDPOINTS))
            .unwrap_or_default();
        let ports = fields
            .get("ports")
            .map(|field| field.items_up_to(MAX_PORTS))
            .unwrap_or_default();
        let address_type = address_type?;
        Some(EndpointSlice {
            address_type,
            endpoints: endpoints
                .iter()
                .filter_map(|field| Endpoint::read(field, address_type))
                .collect(),
            ports: ports.iter().filter_map(EndpointPort::read).collect(),
        })
    }
}

impl Endpoint {
    fn read(field: &Field<'_>, address_type: AddressType) -> Option<Endpoint> {
        let mut fields = field.fields()?;
        let mut endpoint = Endpoint {
            ready: true,
            ..Endpoint::default()
        };
        if let Some(field) = fields.require("addresses", "at least one address") {
            for item in field.items_up_to(MAX_ADDRESSES) {
                let address = match address_type {
                    AddressType::Fqdn => item.checked(syntax::dns_subdomain).and(None),
                    _ => item.parsed(syntax::unicast),
                };
                let Some(address) = address else { continue };
                if address.is_ipv4() != (address_type == AddressType::Ipv4) {
                    item.error(format!("{address} is not of the slice's addressType"));
                }
                endpoint.addresses.push(address);
            }
        }
        if let Some(mut conditions) = fields.get("conditions").and_then(|field| field.fields()) {
            endpoint.ready = conditions
                .get("ready")
                .and_then(|field| field.boolean())
                .unwrap_or(true);
            conditions.keep(&["serving", "terminating"]);
            conditions.finish();
        }
        if let Some(mut target) = fields.get("targetRef").and_then(|field| field.fields()) {
            endpoint.target = Some(TargetReference {
                kind: own(target.get("kind")),
                namespace: own(target.get("namespace")),
                name: own(target.get("name")),
                uid: own(target.get("uid")),
            });
            target.keep(&["apiVersion", "fieldPath", "resourceVersion"]);
            target.finish();
        }
        endpoint.node_name = own(fields.get("nodeName"));
        endpoint.zone = own(fields.get("zone"));
        fields.keep(&["deprecatedTopology", "hints", "hostname"]);
        fields.finish();
        Some(endpoint)
    }
}

impl EndpointPort {
    fn read(field: &Field<'_>) -> Option<EndpointPort> {
        let mut fields = field.fields()?;
        let name = own(fields.get("name"));
        let port = fields.get("port").map(|field| field.port());
        let protocol = fields
            .get("protocol")
            .and_then(|field| field.choice(&PROTOCOLS))
            .unwrap_or_default();
        fields.keep(&["appProtocol"]);
        fields.finish();
        match port {
            Some(None) => None,
            Some(port) => Some(EndpointPort { name, port, protocol }),
            None => Some(EndpointPort {
                name,
                port: None,
                protocol,
            }),
        }
    }
}
