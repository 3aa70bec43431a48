//! ServiceEntries: names and addresses for what Kubernetes has no Service for.

use std::net::IpAddr;

use crate::document::{Data, Tree};
use crate::metadata::Metadata;
use crate::read::{Field, Fields};
use crate::selector::{self, Labels};
use crate::syntax::{self, IpBlock};
use crate::workload_entry::WorkloadEntry;

mod rules;

/// The label on a ServiceEntry that says, with `false`, that it is to have no address of the mesh's choice.
pub const AUTO_ALLOCATE_LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

const MAX_HOSTS: usize = 256;
const MAX_ADDRESSES: usize = 256;
const MAX_ENDPOINTS: usize = 4096;
const MAX_PORTS: usize = 256;
/// How many names and namespaces a list without a limit in the API may hold here.
const MAX_NAMES: usize = 4096;

/// Names and addresses for what Kubernetes has no Service for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The names, in lower case; the first label of one may be `*`.
    pub hosts: Vec<String>,
    /// Its addresses; several hosts share them.
    pub addresses: Vec<IpBlock>,
    /// Its ports.
    pub ports: Vec<ServiceEntryPort>,
    /// Whether it is part of the mesh.
    pub location: Location,
    /// How connections find an endpoint.
    pub resolution: Resolution,
    /// Its endpoints, where they are given here.
    pub endpoints: Vec<WorkloadEntry>,
    /// The labels of its endpoints among the Pods and WorkloadEntries of its namespace.
    pub workload_selector: Option<Labels>,
    /// Identities that its endpoints may have beside their own.
    pub subject_alt_names: Vec<String>,
    /// The namespaces that may see it: `.` its own, `*` all, `~` none; empty: not said.
    pub export_to: Vec<String>,
    /// The addresses that were chosen for its hosts (`status.addresses`); an entry that is no good is left out.
    pub allocated: Vec<AllocatedAddress>,
}

/// An address that was chosen for a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AllocatedAddress {
    /// The host.
    pub host: String,
    /// Its address.
    pub address: IpAddr,
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntryPort {
    /// The port.
    pub number: u16,
    /// Its name, by which endpoints give their own.
    pub name: String,
    /// What is spoken, in upper case; empty when not said.
    pub protocol: String,
    /// The port of the endpoints; `None`: the same.
    pub target_port: Option<u16>,
}

/// Whether a ServiceEntry is part of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Location {
    /// It lies outside.
    #[default]
    External,
    /// It is part of it.
    Internal,
}

/// How connections to a ServiceEntry find an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// They go where they were addressed.
    #[default]
    None,
    /// One of the given endpoints.
    Static,
    /// A name is resolved.
    Dns,
    /// A name is resolved, and one of its addresses used for all until that is gone.
    DnsRoundRobin,
    /// The name that the caller used is resolved.
    DynamicDns,
}

impl Resolution {
    /// Whether who connects resolves a name.
    pub fn is_dns(self) -> bool {
        matches!(
            self,
            Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns
        )
    }
}

impl ServiceEntry {
    /// The hosts for which the mesh is to choose addresses: none where the author gave addresses, where connections go
    /// where they were addressed, or where a label opts out; no host that is a pattern, unless names are resolved as
    /// they are used.
    pub fn hosts_to_allocate<'a>(&'a self, metadata: &'a Metadata) -> impl Iterator<Item = &'a str> {
        let opted_out = metadata
            .labels
            .get(AUTO_ALLOCATE_LABEL)
            .is_some_and(|value| value.eq_ignore_ascii_case("false"));
        let wanted = !opted_out && self.addresses.is_empty() && self.resolution != Resolution::None;
        let is_pattern = |host: &str| host.starts_with('*');
        let hosts = self.hosts.iter().map(String::as_str);
        hosts.filter(move |host| wanted && (!is_pattern(host) || self.resolution == Resolution::DynamicDns))
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<ServiceEntry> {
        const LOCATIONS: [(&str, Location); 2] = [
            ("MESH_EXTERNAL", Location::External),
            ("MESH_INTERNAL", Location::Internal),
        ];
        const RESOLUTIONS: [(&str, Resolution); 5] = [
            ("NONE", Resolution::None),
            ("STATIC", Resolution::Static),
            ("DNS", Resolution::Dns),
            ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
            ("DYNAMIC_DNS", Resolution::DynamicDns),
        ];
        let allocated = fields.get("status").map(|field| allocated(field.tree()));
        let spec_field = fields.require("spec", "a ServiceEntry needs a spec")?;
        let mut spec = spec_field.fields()?;
        let hosts_field = spec.require("hosts", "the names it stands for");
        let addresses_field = spec.get("addresses");
        let endpoints_field = spec.get("endpoints");
        let entry = ServiceEntry {
            hosts: hosts_field.as_ref().map(hosts).unwrap_or_default(),
            addresses: list(addresses_field.as_ref(), MAX_ADDRESSES, |field| {
                field.parsed(syntax::ip_block)
            }),
            ports: spec.get("ports").as_ref().map(ports).unwrap_or_default(),
            location: spec
                .get("location")
                .and_then(|field| field.choice(&LOCATIONS))
                .unwrap_or_default(),
            resolution: spec
                .get("resolution")
                .and_then(|field| field.choice(&RESOLUTIONS))
                .unwrap_or_default(),
            endpoints: list(endpoints_field.as_ref(), MAX_ENDPOINTS, WorkloadEntry::read_spec),
            workload_selector: spec.get("workloadSelector").as_ref().and_then(workload_selector),
            subject_alt_names: list(spec.get("subjectAltNames").as_ref(), MAX_NAMES, |field| {
                field.text().map(str::to_owned)
            }),
            export_to: list(spec.get("exportTo").as_ref(), MAX_NAMES, |field| {
                field.checked(export).map(str::to_owned)
            }),
            allocated: allocated.unwrap_or_default(),
        };
        spec.finish();
        rules::check(
            &entry,
            &rules::Places {
                spec: &spec_field,
                hosts: hosts_field.as_ref(),
                addresses: addresses_field.as_ref(),
                endpoints: endpoints_field.as_ref(),
            },
        );
        Some(entry)
    }
}

fn list<T>(field: Option<&Field<'_>>, limit: usize, read: impl Fn(&Field<'_>) -> Option<T>) -> Vec<T> {
    let items = field.map(|field| field.items_up_to(limit)).unwrap_or_default();
    items.iter().filter_map(read).collect()
}

fn hosts(field: &Field<'_>) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    let items = field.items_up_to(MAX_HOSTS);
    if items.is_empty() && field.tree().is_sequence() {
        field.error("must name at least one host");
    }
    for item in items {
        let Some(host) = item.parsed(host) else { continue };
        if hosts.contains(&host) {
            item.error(format!("{host} is named twice"));
        } else {
            hosts.push(host);
        }
    }
    hosts
}

/// A DNS name whose first label may be `*`.
fn host(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    match name {
        "*" => Err("would stand for every name: name a domain, such as *.example.com".to_owned()),
        _ if syntax::dns_subdomain(name).is_err() => Err(
            "is no DNS name: lower case letters, digits, '-' and '.'; only the first label may be '*'"
                .to_owned(),
        ),
        _ => Ok(lower),
    }
}

fn ports(field: &Field<'_>) -> Vec<ServiceEntryPort> {
    let mut ports: Vec<ServiceEntryPort> = Vec::new();
    for item in field.items_up_to(MAX_PORTS) {
        let Some(port) = ServiceEntryPort::read(&item) else {
            continue;
        };
        if ports.iter().any(|other| other.number == port.number) {
            item.error(format!("there is already a port {}", port.number));
        } else if ports.iter().any(|other| other.name == port.name) {
            item.error(format!("there is already a port named {:?}", port.name));
        }
        ports.push(port);
    }
    ports
}

impl ServiceEntryPort {
    fn read(field: &Field<'_>) -> Option<ServiceEntryPort> {
        let mut fields = field.fields()?;
        let number = fields
            .require("number", "the port that callers use")
            .and_then(|field| field.port());
        let name = fields
            .require("name", "a name for the port, such as https")
            .and_then(|field| field.checked(port_label));
        let protocol = fields
            .get("protocol")
            .and_then(|field| field.parsed(protocol))
            .unwrap_or_default();
        // The API's zero value: not given.
        let target_port = fields
            .get("targetPort")
            .and_then(|field| field.integer(0, 65535))
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0);
        fields.finish();
        Some(ServiceEntryPort {
            number: number?,
            name: name?.to_owned(),
            protocol,
            target_port,
        })
    }
}

fn port_label(text: &str) -> Result<(), String> {
    syntax::dns_label(&text.to_ascii_lowercase())
}

fn protocol(text: &str) -> Result<String, String> {
    const KNOWN: [&str; 13] = [
        "HTTP",
        "HTTPS",
        "HTTP2",
        "HTTP_PROXY",
        "GRPC",
        "GRPC-WEB",
        "MONGO",
        "MYSQL",
        "REDIS",
        "TCP",
        "TLS",
        "UDP",
        "HBONE",
    ];
    let upper = text.to_ascii_uppercase();
    if text.is_empty() || KNOWN.contains(&upper.as_str()) {
        Ok(upper)
    } else {
        Err(format!("is no protocol: use one of {}", KNOWN.join(", ")))
    }
}

fn workload_selector(field: &Field<'_>) -> Option<Labels> {
    let mut fields = field.fields()?;
    let labels = fields.get("labels").map(|field| field.text_map(syntax::label));
    fields.finish();
    let labels = labels.unwrap_or_default();
    if labels.len() > selector::MAX_MATCH_LABELS {
        field.error(format!("has {} labels", labels.len()));
    }
    Some(labels)
}

fn export(text: &str) -> Result<(), String> {
    match text {
        "." | "*" | "~" => Ok(()),
        name => syntax::dns_label(name)
            .map_err(|_| "is no namespace; `.` means its own, `*` all and `~` none".to_owned()),
    }
}

/// What a controller wrote is no reason to refuse what the author wrote: what is not understood of it is left out.
fn allocated(status: &Tree) -> Vec<AllocatedAddress> {
    let Some(Data::Sequence(items)) = status.get("addresses").map(|field| &field.data) else {
        return Vec::new();
    };
    let text = |item: &Tree, name: &str| item.get(name).and_then(Tree::text).map(str::to_owned);
    let read = |item: &Tree| {
        Some(AllocatedAddress {
            host: text(item, "host")?.to_ascii_lowercase(),
            address: syntax::unicast(&text(item, "value")?).ok()?,
        })
    };
    items.iter().take(2 * MAX_HOSTS).filter_map(read).collect()
}

#[cfg(test)]
mod tests;
