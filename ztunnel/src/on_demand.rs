//! Asking the control plane for what a connection needs and the snapshot does not hold.
//!
//! Only where `XDS_ON_DEMAND` is set; otherwise the snapshot is complete and nothing is asked. Until the answer is
//! there a connection waits, and one without an answer in time fails: it never goes out as if the destination were
//! unknown.

use mesh::NetworkAddress;
use mesh::inbound::Missing;
use mesh::route::Need;
use std::net::IpAddr;
use std::time::Duration;
use xds_client::{AskError, Asker};

/// How long one connection or DNS query waits for the control plane.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Asks by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct OnDemand {
    asker: Option<Asker>,
    cluster: String,
}

impl OnDemand {
    /// Asks through `asker`, for pods of `cluster`.
    pub(crate) fn new(asker: Asker, cluster: &str) -> Self {
        Self {
            asker: Some(asker),
            cluster: cluster.to_owned(),
        }
    }

    /// Whether the snapshot holds only what was asked for.
    pub(crate) fn is_on(&self) -> bool {
        self.asker.is_some()
    }

    /// Has what a route needs brought into the snapshot. None: that is not asked of the control plane.
    pub(crate) async fn look_up(&self, need: &Need) -> Option<Result<bool, AskError>> {
        match need {
            Need::Address(address) => Some(self.address(address).await),
            Need::Service(key) => Some(self.service(key).await),
            _ => None,
        }
    }

    /// Has what a request in a tunnel names brought into the snapshot. None: its name tells nobody whom to ask.
    pub(crate) async fn look_up_inbound(
        &self,
        missing: &Missing,
        cluster_domain: &str,
    ) -> Option<Result<bool, AskError>> {
        match missing {
            Missing::Address(address) => Some(self.address(address).await),
            Missing::Service(host) => Some(self.service(&service_key(host, cluster_domain)?).await),
        }
    }

    /// Has whatever is at `address` brought into the snapshot. False: the mesh knows nothing there.
    async fn address(&self, address: &NetworkAddress) -> Result<bool, AskError> {
        self.ask(&address_name(&address.network, address.ip)).await
    }

    /// Has the service `namespace/hostname` brought into the snapshot. False: there is none.
    pub(crate) async fn service(&self, key: &str) -> Result<bool, AskError> {
        self.ask(key).await
    }

    /// Has the pod `namespace/name` of this cluster brought into the snapshot. False: there is none.
    pub(crate) async fn pod(&self, namespace: &str, name: &str) -> Result<bool, AskError> {
        self.ask(&format!("{}//Pod/{namespace}/{name}", self.cluster))
            .await
    }

    async fn ask(&self, name: &str) -> Result<bool, AskError> {
        match &self.asker {
            Some(asker) => asker.ask(name, ANSWER_DEADLINE).await,
            None => Ok(true),
        }
    }
}

/// The name of an address in discovery: `network/ip`.
fn address_name(network: &str, ip: IpAddr) -> String {
    format!("{network}/{}", ip.to_canonical())
}

/// The key of the Kubernetes service that a full DNS name stands for: `web.demo.svc.cluster.local` is
/// `demo/web.demo.svc.cluster.local`. None for other names, whose namespace cannot be told.
pub(crate) fn service_key(name: &str, cluster_domain: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let inner = name.strip_suffix(&cluster_domain.to_ascii_lowercase())?;
    let inner = inner.strip_suffix(".svc.").map(str::to_owned)?;
    let (_, namespace) = inner
        .rsplit_once('.')
        .filter(|(service, _)| !service.contains('.'))?;
    Some(format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_named_as_discovery_names_them() {
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(address_name("west", mapped), "west/10.0.0.1");
        assert_eq!(address_name("", "fd00::1".parse().unwrap()), "/fd00::1");
    }

    #[test]
    fn full_names_of_services_lead_to_their_key() {
        let key = |name| service_key(name, "cluster.local");
        let web = Some("demo/web.demo.svc.cluster.local".to_owned());
        assert_eq!(key("web.demo.svc.cluster.local."), web);
        assert_eq!(key("Web.Demo.svc.cluster.LOCAL"), web);
        for other in [
            "example.com",
            "web.demo.svc.other.local",
            "demo.svc.cluster.local",
            "pod-0.web.demo.svc.cluster.local",
            "svc.cluster.local",
            "",
        ] {
            assert_eq!(key(other), None, "{other}");
        }
    }
}
