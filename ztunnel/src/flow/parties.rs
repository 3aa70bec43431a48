//! Who talks to whom, as metrics and logs tell it.

use crate::connections::InboundSubject;
use crate::context::Context;
use crate::headers::PeerDescription;
use mesh::{Identity, NetworkAddress, Service, Snapshot, Workload};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use telemetry::{Label, Reporter, SecurityPolicy, TrafficLabels, WorkloadLabels};

/// Who talks to whom.
pub(crate) struct Parties {
    pub(super) labels: TrafficLabels,
    pub(super) source_pod: Option<Arc<str>>,
    pub(super) destination_pod: Option<Arc<str>>,
    pub(super) tunnel: Option<TunnelEnd>,
}

/// The tunnel that a connection goes through.
pub(super) struct TunnelEnd {
    /// Where it ends.
    pub(super) address: SocketAddr,
    /// What is asked for inside.
    pub(super) authority: String,
}

impl Parties {
    /// Of a connection that `own` opens; `identity` is given where TLS proves both ends.
    pub(crate) fn outbound(
        own: &Workload,
        destination: Option<&Workload>,
        service: Option<&Service>,
        identity: Option<&Identity>,
    ) -> Self {
        let mut labels = TrafficLabels::new(Reporter::Source);
        labels.source = workload_labels(own, identity.is_some());
        if let Some(destination) = destination {
            labels.destination = workload_labels(destination, identity.is_some());
        }
        if let Some(service) = service {
            name_service(&mut labels, service);
        }
        if identity.is_some() {
            labels.connection_security_policy = SecurityPolicy::MutualTls;
        }
        Self {
            labels,
            source_pod: Some(own.name.clone()),
            destination_pod: destination.map(|workload| workload.name.clone()),
            tunnel: None,
        }
    }

    /// Of a connection to `own`. The source workload is found by address and believed for labels only, and only
    /// if it fits the identity that TLS has proven.
    pub(crate) fn inbound(
        context: &Context,
        snapshot: &Snapshot,
        subject: &InboundSubject,
        own: &Workload,
    ) -> Self {
        let mut labels = TrafficLabels::new(Reporter::Destination);
        let secured = subject.peer.is_some();
        let address = NetworkAddress {
            network: context.config.network.as_str().into(),
            ip: subject.source_ip,
        };
        let source = snapshot.workload_by_address(&address).filter(|workload| {
            subject
                .peer
                .as_ref()
                .is_none_or(|peer| workload.identity() == *peer)
        });
        if let Some(source) = source {
            labels.source = workload_labels(source, false);
        }
        if let Some(peer) = &subject.peer {
            labels.source.principal = Label::from(peer.to_string().as_str());
            labels.source.namespace = Label::from(peer.namespace());
            labels.connection_security_policy = SecurityPolicy::MutualTls;
        }
        labels.destination = workload_labels(own, secured);
        Self {
            labels,
            source_pod: source.map(|workload| workload.name.clone()),
            destination_pod: Some(own.name.clone()),
            tunnel: None,
        }
    }

    /// The connection goes through a tunnel that ends at `address`, in which `authority` was asked for.
    pub(crate) fn through(mut self, address: SocketAddr, authority: impl Into<String>) -> Self {
        self.tunnel = Some(TunnelEnd {
            address,
            authority: authority.into(),
        });
        self
    }

    /// Names the service that an inbound connection was for: the one of `host`, which the caller says, if `own` serves
    /// it, else one that leads to `port`. An address alone cannot say it, and nothing depends on it.
    pub(crate) fn serving(
        mut self,
        snapshot: &Snapshot,
        own: &Workload,
        host: Option<&str>,
        port: u16,
    ) -> Self {
        let services = || own.services.keys().filter_map(|key| snapshot.service(key));
        let leads_to = |service: &Service| {
            let own_ports = own.services.get(service.key()).into_iter().flatten();
            own_ports.chain(&service.ports).any(|candidate| {
                candidate
                    .target_port
                    .map_or(candidate.service_port, NonZeroU16::get)
                    == port
            })
        };
        let found = services()
            .find(|service| host.is_some_and(|host| service.hostname.eq_ignore_ascii_case(host)))
            .or_else(|| services().find(|service| leads_to(service)));
        if let Some(service) = found {
            name_service(&mut self.labels, service);
        }
        self
    }

    /// The labels, with what the other proxy says of its workload where we do not know it ourselves.
    pub(super) fn described_by_peer(&self, peer: &PeerDescription) -> TrafficLabels {
        let mut labels = self.labels.clone();
        let end = match labels.reporter {
            Reporter::Source => &mut labels.destination,
            Reporter::Destination => &mut labels.source,
        };
        for (label, value) in [
            (&mut end.workload, &peer.workload),
            (&mut end.namespace, &peer.namespace),
            (&mut end.canonical_service, &peer.service),
            (&mut end.canonical_revision, &peer.revision),
            (&mut end.app, &peer.service),
            (&mut end.version, &peer.revision),
            (&mut end.cluster, &peer.cluster),
            (&mut end.region, &peer.region),
            (&mut end.zone, &peer.zone),
        ] {
            if let Some(value) = value.as_deref().filter(|_| *label == Label::unknown()) {
                *label = Label::from(value);
            }
        }
        labels
    }

    pub(super) fn unknown(reporter: Reporter) -> Self {
        Self {
            labels: TrafficLabels::new(reporter),
            source_pod: None,
            destination_pod: None,
            tunnel: None,
        }
    }
}

fn name_service(labels: &mut TrafficLabels, service: &Service) {
    labels.destination_service = Label::from(&*service.hostname);
    labels.destination_service_namespace = Label::from(&*service.namespace);
    labels.destination_service_name = Label::from(&*service.name);
}

pub(crate) fn workload_labels(workload: &Workload, proven: bool) -> WorkloadLabels {
    let principal = if proven {
        Label::from(workload.identity().to_string().as_str())
    } else {
        Label::unknown()
    };
    WorkloadLabels {
        workload: Label::from(&*workload.workload_name),
        namespace: Label::from(&*workload.namespace),
        principal,
        canonical_service: Label::from(&*workload.canonical_name),
        canonical_revision: Label::from(&*workload.canonical_revision),
        app: Label::from(&*workload.canonical_name),
        version: Label::from(&*workload.canonical_revision),
        cluster: Label::from(&*workload.cluster_id),
        region: Label::from(&*workload.locality.region),
        zone: Label::from(&*workload.locality.zone),
    }
}

#[cfg(test)]
mod tests;
