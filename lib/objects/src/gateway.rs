//! Gateway (Gateway API), as far as it makes a waypoint.

use crate::metadata::own;
use crate::read::{Field, Fields};
use crate::syntax;

/// The class of the Gateways that are waypoints.
pub const WAYPOINT_CLASS: &str = "istio-waypoint";
/// The label on a Service, Pod or Namespace that names the waypoint which its traffic goes through.
pub const USE_WAYPOINT_LABEL: &str = "istio.io/use-waypoint";
/// The label beside [`USE_WAYPOINT_LABEL`] that names the waypoint's namespace, where it is another one.
pub const USE_WAYPOINT_NAMESPACE_LABEL: &str = "istio.io/use-waypoint-namespace";
/// The value of [`USE_WAYPOINT_LABEL`] that opts out of the namespace's waypoint.
pub const NO_WAYPOINT: &str = "none";

/// How many listeners a Gateway may have, as in the Gateway API.
const MAX_LISTENERS: usize = 64;

/// A proxy that stands in front of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// Who makes it run; [`WAYPOINT_CLASS`] for waypoints.
    pub class_name: String,
    /// What it listens on.
    pub listeners: Vec<Listener>,
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
}

impl Gateway {
    /// Whether it is a waypoint.
    pub fn is_waypoint(&self) -> bool {
        self.class_name == WAYPOINT_CLASS
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Gateway> {
        fields.keep(&["status"]);
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
        spec.keep(&[
            "addresses",
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
        fields.keep(&["allowedRoutes", "hostname", "tls"]);
        fields.finish();
        Some(Listener {
            name: name?.to_owned(),
            port: port?,
            protocol,
        })
    }
}
