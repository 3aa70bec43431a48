//! WorkloadEntries: endpoints that are no pods, such as virtual machines and hosts outside of the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::metadata::own;
use crate::read::{Field, Fields};
use crate::selector::Labels;
use crate::syntax;

/// The annotation by which a WorkloadEntry that registered itself names its WorkloadGroup.
pub const AUTO_REGISTRATION_GROUP_ANNOTATION: &str = "istio.io/autoRegistrationGroup";

/// How many ports an endpoint may name, as in the API.
const MAX_PORTS: usize = 128;
/// How many labels an endpoint may have, as in the API.
const MAX_LABELS: usize = 256;
const MAX_ADDRESS_BYTES: usize = 256;
const MAX_NAME_BYTES: usize = 2048;

/// An endpoint that is no pod: a WorkloadEntry of its own, or one that stands in a ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// Where it is; `None`: only its network is known, and it is reached through that network's gateway.
    pub address: Option<EntryAddress>,
    /// Its ports, by the names of the service's ports.
    pub ports: BTreeMap<String, u16>,
    /// What selectors look at, beside the labels of the object.
    pub labels: Labels,
    /// The network it is on; empty: that of the mesh.
    pub network: String,
    /// Region, zone and subzone, parted by `/`; empty where unknown.
    pub locality: String,
    /// Its share when a service is balanced; `None`: 1.
    pub weight: Option<u32>,
    /// The service account of its identity; empty: none was said.
    pub service_account: String,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryAddress {
    /// An address.
    Ip(IpAddr),
    /// A DNS name, resolved by who connects.
    Name(String),
    /// A Unix socket beside a proxy; node proxies reach none.
    Socket(String),
}

impl fmt::Display for EntryAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryAddress::Ip(address) => write!(out, "{address}"),
            EntryAddress::Name(name) => out.write_str(name),
            EntryAddress::Socket(path) => write!(out, "unix://{path}"),
        }
    }
}

impl WorkloadEntry {
    /// Region, zone and subzone; empty where unknown.
    pub fn locality_parts(&self) -> [&str; 3] {
        let mut parts = self.locality.splitn(3, '/');
        [(); 3].map(|()| parts.next().unwrap_or_default())
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<WorkloadEntry> {
        fields.keep(&["status"]);
        let spec = fields.require("spec", "a WorkloadEntry needs a spec")?;
        let entry = WorkloadEntry::read_spec(&spec)?;
        if entry.address.is_none() && entry.network.is_empty() {
            spec.error(
                "address is missing: without it, network must say through which gateway it is reached",
            );
        }
        Some(entry)
    }

    /// The content, as it also stands in ServiceEntries and WorkloadGroups.
    pub(crate) fn read_spec(field: &Field<'_>) -> Option<WorkloadEntry> {
        let mut fields = field.fields()?;
        let address = fields.get("address");
        let is_given = address
            .as_ref()
            .is_some_and(|field| field.tree().text() != Some(""));
        let address = address.filter(|_| is_given);
        let ports_field = fields.get("ports");
        let ports = ports_field.as_ref().map(ports).unwrap_or_default();
        let labels = match fields.get("labels") {
            Some(field) => {
                let labels = field.text_map(syntax::label);
                if labels.len() > MAX_LABELS {
                    field.error(format!(
                        "has {} labels; at most {MAX_LABELS} are accepted",
                        labels.len()
                    ));
                }
                labels
            }
            None => Labels::new(),
        };
        let network = short(fields.get("network"), MAX_NAME_BYTES);
        let locality = short(fields.get("locality"), MAX_NAME_BYTES);
        let weight = fields
            .get("weight")
            .and_then(|field| field.integer(0, u32::MAX))
            .filter(|weight| *weight > 0);
        let service_account = match fields.get("serviceAccount") {
            Some(field) if field.tree().text() == Some("") => String::new(),
            Some(field) => field
                .checked(syntax::dns_subdomain)
                .unwrap_or_default()
                .to_owned(),
            None => String::new(),
        };
        fields.finish();
        let address = match address {
            Some(field) => Some(field.parsed(entry_address)?),
            None => None,
        };
        if let (Some(EntryAddress::Socket(_)), Some(field)) = (&address, &ports_field) {
            field.error("a Unix socket has no ports");
        }
        Some(WorkloadEntry {
            address,
            ports,
            labels,
            network,
            locality,
            weight,
            service_account,
        })
    }
}

fn ports(field: &Field<'_>) -> BTreeMap<String, u16> {
    let entries = field.entries();
    if entries.len() > MAX_PORTS {
        field.error(format!(
            "has {} ports; at most {MAX_PORTS} are accepted",
            entries.len()
        ));
    }
    let mut ports = BTreeMap::new();
    for (name, field) in entries {
        if let Some(port) = field.port() {
            ports.insert(name.to_owned(), port);
        }
    }
    ports
}

/// An address, a DNS name or a Unix socket.
fn entry_address(text: &str) -> Result<EntryAddress, String> {
    if text.len() > MAX_ADDRESS_BYTES {
        return Err(format!("is longer than {MAX_ADDRESS_BYTES} bytes"));
    }
    if let Some(path) = text.strip_prefix("unix://") {
        let is_good = path.starts_with('/') || path.starts_with('@');
        return if is_good && !path.ends_with('/') {
            Ok(EntryAddress::Socket(path.to_owned()))
        } else {
            Err("is no absolute path of a Unix socket, such as unix:///run/app.sock".to_owned())
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return syntax::address(text).map(EntryAddress::Ip);
    }
    let name = text.to_ascii_lowercase();
    match syntax::dns_subdomain(&name) {
        Ok(()) => Ok(EntryAddress::Name(name)),
        Err(_) => Err("is no IP address, no DNS name and no unix:// path".to_owned()),
    }
}

fn short(field: Option<Field<'_>>, longest: usize) -> String {
    if let Some(field) = &field
        && field.tree().text().is_some_and(|text| text.len() > longest)
    {
        field.error(format!("is longer than {longest} bytes"));
    }
    own(field)
}
